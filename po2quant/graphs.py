"""Freeing the compiled graphs of networks that are done with."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import keras
from tensorflow.python.framework import ops

_CUSTOM_GRADIENT = "CustomGradient-"


@contextmanager
def graphs_released() -> Iterator[None]:
    """Free, at the end, the graphs of quantized networks that were traced within.

    TensorFlow registers the gradient of each ``tf.custom_gradient`` in a graph and never forgets it, nor the graph,
    which it holds: every network that is trained costs memory for good. A network that was traced within cannot be
    trained afterwards, unless it is compiled anew; its weights and its predictions stay.
    """
    registered = ops.gradient_registry._registry
    known = set(registered)
    try:
        yield
    finally:
        for name in set(registered) - known:
            if name.startswith(_CUSTOM_GRADIENT):
                del registered[name]
        keras.backend.clear_session()
        gc.collect()
