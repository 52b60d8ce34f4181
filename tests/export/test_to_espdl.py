"""ESP-DL files: every integer as esp-ppq's executor computes it, and a sentence where a program does not fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from refusals import complaint

from po2quant.export.environments import ESP_PPQ
from po2quant.export.espdl.to_espdl import EspdlGraph, target_of_program, to_espdl
from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.interpreter import run
from po2quant.integer.operations import Add, AveragePooling, Conv2D, Dense, MaxPooling, Tensor, Weights
from po2quant.integer.program import Output, Program
from po2quant.targets import TARGETS

pytest.importorskip("onnx", reason="onnx is not installed: po2quant[exchange]")


def program_for(name: str, bits: int) -> Program:
    """Return convolutions, a residual, both poolings and a matrix product for a chip."""
    rng, target, largest = np.random.default_rng(0), TARGETS[name], 2 ** (bits - 1) - 1

    def weights(*shape: int) -> list[Weights]:
        exponents = np.full(shape[-1], -bits) - (rng.integers(0, 3, shape[-1]) if target.scales == "channel" else 0)
        kernel = Weights(rng.integers(-largest, largest + 1, shape), exponents, bits)
        limit = 2 ** (2 * bits - 3)
        return [kernel, Weights(rng.integers(-limit, limit, shape[-1]), exponents - bits + 3, 31)]

    def tensor(name: str, *shape: int, exponent: int = 3 - bits) -> Tensor:
        return Tensor(name, shape, FixedPointFormat(bits, exponent, rounding=target.rounding))

    tensors = (tensor("x", 6, 6, 4), tensor("c", 6, 6, 4), tensor("d", 6, 6, 4), tensor("s", 6, 6, 4))
    tensors += (tensor("p", 3, 3, 4, exponent=4 - bits), tensor("m", 4), tensor("y", 3))
    around = ((1, 1), (1, 1))
    steps = (
        Conv2D("conv", ("x",), "c", *weights(3, 3, 4, 4), padding=around, activation="relu"),
        Conv2D("depthwise", ("c",), "d", *weights(3, 3, 1, 4), padding=around, groups=4),
        Add("add", ("c", "d"), "s", activation="relu"),
        MaxPooling("largest", ("s",), "p", (2, 2), (2, 2)),
        AveragePooling("mean", ("p",), "m", (3, 3), (1, 1)),
        Dense("dense", ("m",), "y", *weights(4, 3)),
    )
    return Program("net", tensors, ("x",), steps, (Output("y"),))


def test_a_graph_says_the_exponent_of_all_that_is_quantized():
    program = program_for("esp32-p4", 8)
    assert target_of_program(program) is TARGETS["esp32-p4"]
    graph = EspdlGraph(program)
    names = {node.output[0] for node in graph.model().graph.node}
    told = graph.quantization(TARGETS["esp32-p4"])
    assert told["chip"] == "esp32p4" and told["bits"] == 8
    assert {name: told["exponents"][name] for name in program.tensor} == {
        name: [tensor.format.exponent] for name, tensor in program.tensor.items()
    }
    assert set(program.tensor) - {"x"} <= names
    (conv, *_) = program.operations
    assert told["exponents"]["conv/kernel"] == conv.kernel.exponents.tolist()
    assert told["exponents"]["conv/bias"] == (conv.kernel.exponents - 5).tolist()


def test_a_program_for_no_such_chip_is_refused():
    program = program_for("esp32-p4", 8)
    tensors = tuple(
        dataclasses.replace(tensor, format=dataclasses.replace(tensor.format, narrow_range=True))
        for tensor in program.tensors
    )
    words = complaint(target_of_program, dataclasses.replace(program, tensors=tensors))
    assert "target esp32-p4 or esp32-s3" in words and "tensor 'x' stops at -127" in words


def test_what_has_no_form_there_is_refused_by_name():
    program = program_for("esp32-p4", 8)
    (conv, *others) = program.operations
    relu6 = dataclasses.replace(program, operations=(dataclasses.replace(conv, activation="relu6"), *others))
    assert "operation 'conv' must have ReLU or nothing at its end" in complaint(EspdlGraph(relu6).model)


def test_a_missing_environment_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PO2QUANT_ESPDL_PYTHON", str(tmp_path / "python"))
    assert "scripts/espdl_environment.sh" in complaint(to_espdl, program_for("esp32-p4", 8), tmp_path / "net.espdl")


@pytest.mark.slow
@pytest.mark.skipif(bool(ESP_PPQ.refusal()), reason=str(ESP_PPQ.refusal()))
@pytest.mark.parametrize(("name", "bits"), [("esp32-p4", 8), ("esp32-s3", 8), ("esp32-p4", 16), ("esp32-s3", 16)])
def test_every_integer_is_that_of_esp_ppqs_executor(name, bits, tmp_path):
    program, rng = program_for(name, bits), np.random.default_rng(1)
    inputs = [rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (3, 6, 6, 4))]
    expected = run(program, inputs)
    found = to_espdl(program, tmp_path / "net.espdl", inputs)
    assert found.keys() == expected.keys()
    for tensor, values in found.items():
        np.testing.assert_array_equal(values.reshape(expected[tensor].shape), expected[tensor], err_msg=tensor)
    assert (tmp_path / "net.espdl").stat().st_size > 1000
    told = (tmp_path / "net.info").read_text()
    assert ", ".join(map(str, expected["y"][0])) in " ".join(told.partition("test outputs value")[2].split())
    assert np.unique(expected["y"]).size > 3
