"""Writes a frozen network as a Keras file of plain qkeras layers, which loads without po2quant."""

from __future__ import annotations

import collections
import os
from pathlib import Path

import keras
import numpy as np
import qkeras

from po2quant.deploy.from_keras import integer_program
from po2quant.export.exchange import check_rounding, inexact_in_float32
from po2quant.files import replaced_whole
from po2quant.fixed_point import HALF_EVEN, FixedPointFormat
from po2quant.integer.operations import Weighted, Weights
from po2quant.integer.program import Program
from po2quant.integer.rewrites import jammed_bias, on_one_grid, settle_constant_channels
from po2quant.layers import Recurrent
from po2quant.network.kinds import kernel_facts, kernel_of


def to_qkeras(model: keras.Model, path: str | os.PathLike, program: Program | None = None) -> tuple[str, ...]:
    """Write a frozen model as a ``.keras`` file whose quantizers are all ``quantized_bits(bits, integer, alpha=1)``.

    An exponent ``e`` of ``b`` signed bits is ``integer = e + b - 1``; unsigned, with ``keep_negative=False``,
    ``integer = e + b``. A kernel or bias whose channels have different exponents gets the coarsest grid that holds all
    its values, so that it may have more bits than its po2quant quantizer: the spread of the exponents comes on top. Its
    values are the same, and pass the quantizer unchanged. Bits of a bias that cannot change an output are left out.

    Args:
        model: as for :func:`~po2quant.deploy.from_keras.integer_program`.
        path: of the file; its name must end in ``.keras``. To load it, import qkeras first; where the network has a
            :class:`~po2quant.layers.Rearrange`, po2quant, too.
        program: the model's integer program, where it is at hand.

    Returns:
        The names of the layers that float32 may compute inexactly, because their sums can need more than the 24 bits of
        its significand. All others give po2quant's values, to the bit, for inputs within twice the range of their
        quantizer; beyond, qkeras adds ``x + (quantized - x)``, which float32 may round.

    Raises:
        ValueError: for a model without an integer program, a tensor that is not rounded half to even, and for a layer
            that is called more than once.

    Example:
        >>> to_qkeras(model, "network.keras")  # doctest: +SKIP
        ()
        >>> import keras, qkeras; keras.models.load_model("network.keras")  # doctest: +SKIP
    """
    recurrent = [layer.name for layer in model.layers if isinstance(layer, Recurrent)]
    if recurrent:
        raise ValueError(
            f"a network for qkeras must have no recurrent layers: use another format. Received: {recurrent}"
        )
    program = settle_constant_channels(program or integer_program(model))
    weights = {
        operation.name: _weights(program, operation)
        for operation in program.operations
        if isinstance(operation, Weighted)
    }
    calls = collections.Counter(operation.name for operation in program.operations)
    for tensor in program.tensors:
        check_rounding(tensor.format, tensor.name, "qkeras", (HALF_EVEN,))

    def plain(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, qkeras.QActivation):
            return qkeras.QActivation(_activation_quantizer(program.tensor[layer.name].format), name=layer.name)
        if layer.name not in weights:
            return type(layer).from_config(layer.get_config())
        if calls[layer.name] > 1:
            raise ValueError(
                f"layer {layer.name!r} must be called once for qkeras. Received: {calls[layer.name]} calls"
            )
        return _weight_layer(layer, *weights[layer.name])

    copy = keras.models.clone_model(model, clone_function=plain)
    for name, (kernel, bias) in weights.items():
        layer = copy.get_layer(name)
        kernel_of(layer).assign(_values(kernel).reshape(kernel_of(layer).shape))
        layer.bias.assign(_values(bias))
    with replaced_whole(Path(path)) as temporary:
        copy.save(temporary)
    return inexact_in_float32(program)


def _weights(program: Program, operation: Weighted) -> tuple[Weights, Weights]:
    """Return kernel and bias, each with one exponent."""
    bias = jammed_bias(operation, program.inputs_of(operation)[0].format, program.output_of(operation).format)
    return (
        on_one_grid(f"kernel of {operation.name!r}", operation.kernel),
        on_one_grid(f"bias of {operation.name!r}", bias),
    )


def _activation_quantizer(format: FixedPointFormat) -> qkeras.quantized_bits:
    integer = format.exponent + format.bit_width - format.signed
    return qkeras.quantized_bits(
        format.bit_width, integer, int(format.narrow_range), keep_negative=format.signed, alpha=1
    )


def _weight_layer(layer: keras.layers.Layer, kernel: Weights, bias: Weights) -> keras.layers.Layer:
    """Return the same layer with plain quantizers, and always with a bias, which a constant channel may need."""
    part = kernel_facts(layer).prefix
    of_training = {f"{name}_{kind}" for name in (part, "bias") for kind in ("constraint", "regularizer", "range")}
    config = {name: value for name, value in layer.get_config().items() if name not in of_training}
    # qkeras changes other initializers, so that a file of theirs may not load.
    config |= {f"{part}_initializer": "zeros", "bias_initializer": "zeros"}
    config |= {f"{part}_quantizer": _weight_quantizer(kernel), "bias_quantizer": _weight_quantizer(bias)}
    return type(layer)(**config | {"use_bias": True})


def _weight_quantizer(weights: Weights) -> qkeras.quantized_bits:
    integer = int(weights.exponents[0]) + weights.bit_width - 1
    return qkeras.quantized_bits(weights.bit_width, integer, 1, alpha=1)


def _values(weights: Weights) -> np.ndarray:
    return np.ldexp(weights.integers.astype(np.float64), weights.exponents)
