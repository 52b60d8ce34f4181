"""QONNX files in qonnx's own executor: every integer of every tensor is the interpreter's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from exchange_networks import computed, every_operation, frozen_every_operation, narrow
from frozen_networks import frozen, network, noise, randomize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

from po2quant.deploy.from_keras import integer_program
from po2quant.export.executors import run_qonnx
from po2quant.export.onnx.to_qonnx import DOMAIN, to_qonnx
from po2quant.integer.interpreter import quantize_inputs, run
from po2quant.integer.operations import OPERATIONS, Add, AveragePooling, Conv2D, Dense, LookUpTable, Multiply, Recurrent
from po2quant.integer.program import Program
from po2quant.integer.rewrites import settle_constant_channels
from po2quant.network import activation_quantizers

onnx = pytest.importorskip("onnx", reason="onnx is not installed: po2quant[exchange]")
pytest.importorskip("qonnx", reason="qonnx is not installed: po2quant[exchange]")

SAMPLES = 2
WIDE_TOLERANCE = 8
"""Units of 16 bits by which float32 may be off after ten layers: each rounds at the 24th bit of its sums."""


def assert_same(program: Program, path: Path, x: np.ndarray, expected: dict[str, np.ndarray]) -> None:
    found = run_qonnx(program, path, [x])
    assert found.keys() == expected.keys()
    for name, integers in found.items():
        np.testing.assert_array_equal(integers, expected[name], err_msg=name)


@pytest.mark.parametrize("per_channel", [True, False])
def test_every_operation_computes_the_same_integers(per_channel, tmp_path):
    program, x, expected = computed(frozen_every_operation(8), SAMPLES)
    assert {type(operation) for operation in program.operations} == set(OPERATIONS) - {Recurrent}
    assert to_qonnx(program, tmp_path / "network.onnx", per_channel) == ()
    assert_same(program, tmp_path / "network.onnx", x, expected)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(0, 2**32 - 1))
def test_random_networks_compute_the_same_integers(tmp_path, data, seed):
    """2 to 8 bits each, biases to 31, saturation, ties."""
    program, x, expected = computed(narrow(network(data.draw), seed), SAMPLES, seed)
    to_qonnx(program, tmp_path / "network.onnx")
    assert_same(program, tmp_path / "network.onnx", x, expected)


def test_any_table_computes_the_same_integers(tmp_path):
    """A function that no float32 operator stands for is written as its table."""
    quantized = frozen_every_operation(8)
    program, rng = integer_program(quantized), np.random.default_rng(0)
    operations = tuple(
        dataclasses.replace(operation, table=rng.permutation(operation.table), function="any")
        if isinstance(operation, LookUpTable)
        else operation
        for operation in program.operations
    )
    program = dataclasses.replace(program, operations=operations)
    x = noise(quantized, SAMPLES)
    to_qonnx(program, tmp_path / "network.onnx")
    assert_same(program, tmp_path / "network.onnx", x, run(program, quantize_inputs(program, x)))


def test_wide_networks_name_the_operations_that_float32_cannot_hold(tmp_path):
    """16 bits times 16 bits need more than 24."""
    program, x, expected = computed(frozen_every_operation(16), 1)
    inexact = to_qonnx(program, tmp_path / "network.onnx")
    kinds = {type(operation) for operation in program.operations if operation.name in inexact}
    assert {Conv2D, Dense, Multiply} <= kinds <= {Conv2D, Dense, Multiply, AveragePooling, Add}
    found = run_qonnx(program, tmp_path / "network.onnx", [x])
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=WIDE_TOLERANCE)


def test_a_file_has_the_widths_and_flags_of_the_program(tmp_path):
    program, _, _ = computed(narrow(every_operation(), seed=3), 1)
    to_qonnx(program, tmp_path / "network.onnx")
    model = onnx.load(tmp_path / "network.onnx")
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in model.graph.initializer}
    nodes = {node.output[0]: node for node in model.graph.node if node.op_type == "Quant"}
    moved = {
        operation.output
        for operation in program.operations
        if type(operation).__name__ in ("Rearrange", "Reshape", "ZeroPadding")
    }
    assert {tensor.name for tensor in program.tensors} - moved <= nodes.keys()
    for node in nodes.values():
        assert node.domain == DOMAIN and constants[node.input[2]] == 0
        assert constants[node.input[1]].ndim and constants[node.input[2]].shape == (1,)
    for tensor in program.tensors:
        if tensor.name not in moved:
            flags = {item.name: onnx.helper.get_attribute_value(item) for item in nodes[tensor.name].attribute}
            format = tensor.format
            assert flags == {"signed": format.signed, "narrow": format.narrow_range, "rounding_mode": b"ROUND"}
            assert constants[nodes[tensor.name].input[1]] == format.scale
            assert constants[nodes[tensor.name].input[3]] == format.bit_width
    operations = settle_constant_channels(program).operations
    (kernel,) = (operation.kernel for operation in operations if operation.name == "depthwise")
    node = nodes["depthwise/kernel"]
    np.testing.assert_array_equal(constants[node.input[1]].ravel(), 2.0**kernel.exponents)
    assert constants[node.input[3]] == kernel.bit_width


def test_an_output_that_is_one_twice_is_written_under_two_names(tmp_path):
    x = keras.Input((4,), name="input")
    outputs = layers.Dense(3, name="dense")(x)
    quantized = frozen(randomize(keras.Model(x, [outputs, outputs])))
    program = integer_program(quantized)
    path = tmp_path / "twice.onnx"
    to_qonnx(program, path)
    names = [output.name for output in onnx.load(path).graph.output]
    assert len(names) == len(set(names)) == 2


def test_a_shared_layer_has_the_weights_of_each_call(tmp_path):
    """The coarse products of its first call take fewer bits of the bias than the fine ones of its second."""
    x = keras.Input((4,), name="input")
    shared = layers.Dense(4, name="shared")
    quantized = frozen(randomize(keras.Model(x, shared(layers.ReLU()(shared(layers.ReLU()(x)))))))
    of_input, of_first_call, _, _ = [quantizer for _, quantizer in activation_quantizers(quantized)]
    for quantizer in (of_input, of_first_call):
        quantizer.set_range(*(64 * end for end in quantizer.range))
    program, x, expected = computed(quantized, 64)
    to_qonnx(program, tmp_path / "network.onnx")
    assert_same(program, tmp_path / "network.onnx", x, expected)


@pytest.mark.slow
def test_qonnx_own_transformations_take_the_file_and_keep_its_outputs(tmp_path):
    """They want scales and zero points that are no scalars."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.extract_conv_bias import ExtractBiasFromConv
    from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul
    from qonnx.util.range_analysis import range_analysis

    x = inputs = keras.Input((8, 8, 3), name="input")
    x = layers.ReLU()(layers.Conv2D(4, 3, strides=2, padding="same", name="first")(x))
    y = layers.ReLU()(layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x))
    x = layers.Add()([x, layers.Conv2D(4, 1, name="pointwise")(y)])
    x = layers.Dense(5, name="last")(layers.Flatten()(layers.MaxPooling2D(2)(x)))
    program, x, expected = computed(frozen(randomize(keras.Model(inputs, x))), 1)
    to_qonnx(program, tmp_path / "network.onnx")
    model = ModelWrapper(str(tmp_path / "network.onnx"))
    name = program.outputs[0].tensor

    def outputs(model: ModelWrapper) -> np.ndarray:
        return execute_onnx(model, {model.graph.input[0].name: x.astype(np.float32)})[name]

    output = outputs(model)
    np.testing.assert_array_equal(np.ldexp(output, -program.tensor[name].format.exponent), expected[name])
    model = model.transform(ExtractBiasFromConv())
    np.testing.assert_array_equal(outputs(model), output)
    low, high = range_analysis(model, irange=(float(x.min()), float(x.max())), report_mode="range")[name]
    assert np.all(low <= output) and np.all(output <= high)
    model = model.transform(LowerConvsToMatMul())
    assert "Conv" not in {node.op_type for node in model.graph.node}
    np.testing.assert_array_equal(outputs(model), output)
