"""Networks that compute in 16 bits, read as float32."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator

import keras

from po2quant.network.architecture import checked_architecture
from po2quant.network.kinds import COMPUTE_DTYPES

HALF = ("float16", "bfloat16")


def in_float32(model: keras.Model) -> tuple[keras.Model, list[Callable[[], None]]]:
    """Return a model whose layers compute in float32, and what copies the weights there.

    Args:
        model: comes back as it is where no layer of it computes in 16 bits.

    Raises:
        ValueError: for layers in 16 bits that are not Keras' own.
    """
    if not any(layer.compute_dtype in HALF for layer in model._flatten_layers(include_self=False)):
        return model, []
    copy = keras.models.model_from_json(json.dumps(checked_architecture(json.loads(model.to_json()))))

    def transfer() -> None:
        copy.set_weights(model.get_weights())
        for layer in copy._flatten_layers():
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()

    return copy, [transfer]


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Make new layers compute in float32 where Keras' setting for new layers is 16 bits."""
    policy = keras.config.dtype_policy()
    if policy.compute_dtype in COMPUTE_DTYPES:
        yield
        return
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
