"""QONNX files in qonnx's own executor: every integer of every tensor is the interpreter's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exchange_networks import REQUANTIZED, computed, every_operation, narrow
from frozen_networks import frozen, network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from po2quant.deploy.operations import OPERATIONS
from po2quant.deploy.program import Program
from po2quant.deploy.to_qonnx import DOMAIN, to_qonnx

onnx = pytest.importorskip("onnx", reason="onnx is not installed: po2quant[exchange]")
pytest.importorskip("qonnx", reason="qonnx is not installed: po2quant[exchange]")

SAMPLES = 2


def executed(program: Program, path: Path, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the integers of every tensor, samples first and channels last."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    model = ModelWrapper(str(path))
    runs = [execute_onnx(model, {f"{program.inputs[0]}_input": sample[None]}, True) for sample in x]
    values = {tensor.name: np.concatenate([run[tensor.name] for run in runs]) for tensor in program.tensors}
    return {
        name: np.ldexp(
            (value.transpose(0, 2, 3, 1) if value.ndim == 4 else value).astype(np.float64),
            -program.tensor[name].format.exponent,
        )
        for name, value in values.items()
    }


def assert_same(program: Program, path: Path, x: np.ndarray, expected: dict[str, np.ndarray]) -> None:
    found = executed(program, path, x)
    assert found.keys() == expected.keys()
    for name, integers in found.items():
        np.testing.assert_array_equal(integers, expected[name], err_msg=name)


@pytest.mark.parametrize("per_channel", [True, False])
def test_every_operation_computes_the_same_integers(per_channel, tmp_path):
    program, x, expected = computed(frozen(every_operation(), 8, REQUANTIZED), SAMPLES)
    assert {type(operation) for operation in program.operations} == set(OPERATIONS)
    assert to_qonnx(program, tmp_path / "network.onnx", per_channel) == ()
    assert_same(program, tmp_path / "network.onnx", x, expected)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(0, 2**32 - 1))
def test_random_networks_compute_the_same_integers(tmp_path, data, seed):
    """2 to 8 bits each, biases to 31, saturation, ties."""
    program, x, expected = computed(narrow(network(data.draw), seed), SAMPLES, seed)
    to_qonnx(program, tmp_path / "network.onnx")
    assert_same(program, tmp_path / "network.onnx", x, expected)


def test_wide_networks_name_the_operations_that_float32_cannot_hold(tmp_path):
    """16 bits times 16 bits need more than 24; pooling, look-up and moving never do."""
    program, x, expected = computed(frozen(every_operation(), 16), 1)
    inexact = to_qonnx(program, tmp_path / "network.onnx")
    kinds = {type(operation).__name__ for operation in program.operations if operation.name in inexact}
    assert kinds == {"Conv2D", "Dense", "Multiply"}
    found = executed(program, tmp_path / "network.onnx", x)
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=8)


def test_a_file_has_the_widths_and_flags_of_the_program(tmp_path):
    program, _, _ = computed(narrow(every_operation(), seed=3), 1)
    to_qonnx(program, tmp_path / "network.onnx")
    model = onnx.load(tmp_path / "network.onnx")
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in model.graph.initializer}
    nodes = {node.output[0]: node for node in model.graph.node if node.op_type == "Quant"}
    moved = {
        operation.output for operation in program.operations if type(operation).__name__ in ("Reshape", "ZeroPadding")
    }
    assert {tensor.name for tensor in program.tensors} - moved <= nodes.keys()
    for node in nodes.values():
        assert node.domain == DOMAIN and constants[node.input[2]] == 0
    for tensor in program.tensors:
        if tensor.name not in moved:
            flags = {attribute.name: attribute.i or attribute.s for attribute in nodes[tensor.name].attribute}
            format = tensor.format
            assert flags == {"signed": format.signed, "narrow": format.narrow_range, "rounding_mode": b"ROUND"}
            assert constants[nodes[tensor.name].input[1]] == format.scale
            assert constants[nodes[tensor.name].input[3]] == format.bit_width
    (kernel,) = (operation.kernel for operation in program.operations if operation.name == "depthwise_conv2d")
    node = nodes["depthwise_conv2d_kernel"]
    np.testing.assert_array_equal(constants[node.input[1]].ravel(), 2.0**kernel.exponents)
    assert constants[node.input[3]] == kernel.bit_width
