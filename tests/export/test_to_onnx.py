"""Plain ONNX files in onnxruntime: every integer without its optimizer, one unit of an operation with it."""

from __future__ import annotations

import numpy as np
import pytest
from exchange_networks import computed, frozen_every_operation, narrow
from frozen_networks import network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import complaint

from po2quant.deploy.from_keras import integer_program
from po2quant.export.executors import run_onnx, single_operations
from po2quant.export.onnx.to_onnx import to_onnx
from po2quant.integer.operations import Conv2D, Dense

onnx = pytest.importorskip("onnx", reason="onnx is not installed: po2quant[exchange]")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: po2quant[exchange]")

SAMPLES = 8
ROUNDED_BIAS_TOLERANCE = 1
"""Units by which an operation may be off where the optimizer rounds its bias to the products' scale."""


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found
    assert {array.dtype.name for array in found.values()} <= {"int8", "uint8"}
    for name, integers in found.items():
        np.testing.assert_array_equal(integers, expected[name], err_msg=name)


def test_every_operation_computes_the_same_integers(tmp_path):
    program, x, expected = computed(frozen_every_operation(8), SAMPLES)
    assert to_onnx(program, tmp_path / "network.onnx") == ()
    assert_same(run_onnx(program, tmp_path / "network.onnx", [x]), expected)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(0, 2**32 - 1))
def test_random_networks_compute_the_same_integers(tmp_path, data, seed):
    """2 to 8 bits each, biases to 31, saturation, ties."""
    program, x, expected = computed(narrow(network(data.draw), seed), SAMPLES, seed)
    to_onnx(program, tmp_path / "network.onnx")
    assert_same(run_onnx(program, tmp_path / "network.onnx", [x]), expected)


def test_each_optimized_operation_is_at_most_one_unit_off(tmp_path):
    """Only layers with weights may differ: the optimizer rounds their biases."""
    program, _, expected = computed(frozen_every_operation(8), 64)
    for part in single_operations(program):
        (operation,) = part.operations
        to_onnx(part, tmp_path / "part.onnx")
        feeds = [part.tensor[name].format.to_float(expected[name]).astype(np.float32) for name in part.inputs]
        found = run_onnx(part, tmp_path / "part.onnx", feeds, optimized=True)
        for name, integers in found.items():
            is_rounded = isinstance(operation, (Conv2D, Dense)) and name == operation.output
            tolerance = ROUNDED_BIAS_TOLERANCE if is_rounded else 0
            np.testing.assert_allclose(integers, expected[name], rtol=0, atol=tolerance, err_msg=operation.name)


def test_more_than_8_bits_are_refused_by_name(tmp_path):
    wide = integer_program(frozen_every_operation(9))
    assert "tensor 'activation'" in complaint(to_onnx, wide, tmp_path / "network.onnx")
    assert not list(tmp_path.iterdir())
