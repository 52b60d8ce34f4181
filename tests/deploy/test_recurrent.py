"""Recurrent layers in integers: every tensor of every step, in the interpreter, Keras in float64 and C."""

import itertools
import shutil

import numpy as np
import pytest
from exchange_networks import narrow
from frozen_networks import noise
from programs import SANITIZERS, run_c
from recurrent_networks import RECURRENT, STEPS
from refusals import complaint
from selections import slow_but

from po2quant.deploy.check import check
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.reference import compare
from po2quant.deploy.to_qkeras import to_qkeras
from po2quant.export.c.run import COMPILER
from po2quant.export.c.source import memory_bytes, write_c
from po2quant.integer.interpreter import quantize_inputs, run
from po2quant.integer.listing import listing
from po2quant.integer.operations import Recurrent
from po2quant.integer.program import Program
from po2quant.integer.rewrites import unrolled
from po2quant.network import activation_quantizers

MOST_BITS = 16
SATURATING = 2.0
OPTIMIZED = (("LSTM", 0), ("GRU, reset before", 0))
"""Network and seed that C is compiled of as users compile it."""
needs_gcc = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")


@needs_gcc
@pytest.mark.parametrize(
    ("name", "seed"), slow_but((("LSTM", 0), ("between others", 0)), itertools.product(RECURRENT, range(3)))
)
def test_every_integer_of_every_step_is_the_same(name, seed, tmp_path):
    """2 to 16 bits each, biases to 31, ranges that saturate, states included; weights packed and not."""
    quantized = narrow(RECURRENT[name](), seed, MOST_BITS)
    program = integer_program(quantized)
    x = SATURATING * noise(quantized, 8, seed)
    found = compare(program, quantized, x)
    assert found.mismatches == 0 and found.tensors == len(list(activation_quantizers(quantized)))
    integers = quantize_inputs(program, x)
    expected = run(program, integers)
    level = "-O3" if (name, seed) in OPTIMIZED else "-O0"
    for pack, flags in ((False, ("-O1", *SANITIZERS)), (True, (level,))):
        source = write_c(program, tmp_path, "network", pack)
        computed = run_c(source, integers, tmp_path, trace=True, flags=("-Werror", *flags))
        assert computed.keys() == expected.keys()
        for tensor, values in expected.items():
            np.testing.assert_array_equal(computed[tensor], values, tensor)


@pytest.fixture(scope="module")
def lstm():
    quantized = narrow(RECURRENT["LSTM, all steps, stacked"](), 0)
    return quantized, integer_program(quantized)


def test_a_recurrent_layer_becomes_one_operation(lstm, tmp_path):
    """Which is saved, listed and counted."""
    _, program = lstm
    first, second = (operation for operation in program.operations if isinstance(operation, Recurrent))
    assert (first.steps, first.return_sequences, second.return_sequences) == (STEPS, True, False)
    assert program.counts(first).macs == STEPS * (3 * 16 + 4 * 16)
    program.save(tmp_path / "network.npz")
    loaded = Program.load(tmp_path / "network.npz")
    assert repr(loaded) == repr(program) and listing(loaded) == listing(program)
    assert all(operation.name in listing(program) for operation in first.cell.operations)


def test_memory_does_not_grow_with_the_steps_of_a_cell(lstm):
    _, program = lstm
    constants, arena = memory_bytes(program)
    long_constants, long_arena = memory_bytes(unrolled(program))
    assert constants < long_constants / 3
    assert arena <= long_arena


def test_an_unrolled_program_computes_the_same(lstm):
    quantized, program = lstm
    flat = unrolled(program)
    assert len(flat.blocks) == 1 and not any(isinstance(operation, Recurrent) for operation in flat.operations)
    x = SATURATING * noise(quantized, 8)
    once, stepwise = (run(each, quantize_inputs(each, x)) for each in (program, flat))
    for block in program.blocks[1:]:
        for tensor in block.tensors:
            if f"{tensor.name}/0" in stepwise:
                steps = np.stack([stepwise[f"{tensor.name}/{step}"] for step in range(STEPS)], axis=1)
                np.testing.assert_array_equal(steps, once[tensor.name], tensor.name)
    for output in program.outputs:
        np.testing.assert_array_equal(stepwise[output.tensor], once[output.tensor])


def test_sequences_longer_than_an_operation_reads_are_joined_in_parts(monkeypatch, lstm):
    quantized, program = lstm
    monkeypatch.setattr("po2quant.integer.operations.joining.MAX_INPUTS", 2)
    x = noise(quantized, 4)
    (expected, found) = (run(each, quantize_inputs(each, x)) for each in (program, unrolled(program)))
    np.testing.assert_array_equal(found[program.outputs[0].tensor], expected[program.outputs[0].tensor])


@pytest.mark.parametrize("name", slow_but(("LSTM",), ("LSTM", "GRU, reset before")))
def test_exchange_files_compute_the_same_integers(name, tmp_path):
    """Unrolled, in the executors of others."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: po2quant[exchange]")
    pytest.importorskip("qonnx", reason="qonnx is not installed: po2quant[exchange]")
    from po2quant.export.executors import run_onnx, run_qonnx
    from po2quant.export.onnx.to_onnx import to_onnx
    from po2quant.export.onnx.to_qonnx import to_qonnx

    quantized = narrow(RECURRENT[name](), 1)
    program = integer_program(quantized)
    flat = unrolled(program)
    x = SATURATING * noise(quantized, 4)
    expected = run(flat, quantize_inputs(flat, x))
    for write, execute in ((to_onnx, run_onnx), (to_qonnx, run_qonnx)):
        assert write(program, tmp_path / "network.onnx") == ()
        found = execute(flat, tmp_path / "network.onnx", [x])
        assert program.outputs[0].tensor in found or f"{program.blocks[1].outputs[0]}/{STEPS - 1}" in found
        for tensor, integers in found.items():
            np.testing.assert_array_equal(integers, expected[tensor], tensor)


def test_check_says_what_a_recurrent_layer_becomes_and_who_cannot_take_it():
    found = check(RECURRENT["LSTM"]())
    assert found.is_supported and {row.name: row.becomes for row in found.layers}["lstm"] == "Recurrent"
    assert found.formats["c"] == found.formats["c-packed"] == found.formats["text"] == ()
    (reason,) = found.formats["qkeras"]
    assert "Recurrent" in reason and "lstm" in reason


def test_qkeras_refuses_recurrent_layers(lstm, tmp_path):
    quantized, _ = lstm
    assert "recurrent" in complaint(to_qkeras, quantized, tmp_path / "network.keras")
