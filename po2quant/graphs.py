"""Compiled graphs: shared by calls that differ in sizes alone, and freed when they are done with."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from po2quant.compat import gradient_registry

_GRADIENTS_OF_GRAPHS = ("CustomGradient-", "PartitionedCall-")

_shared: dict[Hashable, Callable[..., Any]] = {}


class shared_graph:  # noqa: N801  a decorator
    """Make each call of a function within a graph one operation, whose own graph is traced once for all sizes.

    Tracing takes a third of a millisecond an operation: a network calls the hundred operations of a quantizer dozens
    of times, on tensors of other sizes. Eager calls run the function as it is; :meth:`in_graph` does not.

    Args:
        function: pure; takes tensors by position, of which it knows types and ranks but no sizes, and hashable options
            by name. Returns tensors.
        inlined: whether TensorFlow may copy the operations into the graph that calls. It optimizes all copies, which
            takes a network's first step some milliseconds an operation; a call that stays one takes each step about
            10 microseconds.
    """

    def __init__(self, function: Callable[..., Any], inlined: bool = True) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._attributes = None if inlined else {"_noinline": True}

    def __call__(self, *tensors: tf.Tensor, **options: Hashable) -> Any:
        """Call the function in eager mode, else the shared graph."""
        return (self._function if tf.executing_eagerly() else self.in_graph)(*tensors, **options)

    def in_graph(self, *tensors: tf.Tensor, **options: Hashable) -> Any:
        """Call the shared graph, in eager mode too: there a hundred operations take Python milliseconds."""
        inputs = [tf.convert_to_tensor(tensor) for tensor in tensors]
        signature = tuple(tf.TensorSpec([None] * len(tensor.shape), tensor.dtype) for tensor in inputs)
        key = (self._function, signature, tuple(sorted(options.items())))
        if key not in _shared:

            def traced(*arguments: tf.Tensor) -> Any:  # of a partial, TensorFlow takes an option () for none
                return self._function(*arguments, **options)

            _shared[key] = tf.function(
                traced, input_signature=signature, autograph=False, experimental_attributes=self._attributes
            )
        return _shared[key](*inputs)


@contextmanager
def graphs_released() -> Iterator[None]:
    """Free, at the end, the graphs of quantized networks that were traced within.

    TensorFlow registers the gradient of each ``tf.custom_gradient`` in a graph, and of each call of a graph in another,
    and never forgets it, nor the graph, which it holds: every network that is trained costs memory for good. A network
    that was traced within cannot be trained afterwards, unless it is compiled anew; its weights and its predictions
    stay.
    """
    registered = gradient_registry()
    known = set(registered)
    try:
        yield
    finally:
        for name in set(registered) - known:
            if name.startswith(_GRADIENTS_OF_GRAPHS):
                del registered[name]
        _shared.clear()
        import keras  # here, since Keras' import registers the quantizers, which use graphs

        keras.backend.clear_session()
        gc.collect()
