"""Emulated microcontrollers compute every integer as the interpreter does, compiled without a warning."""

from __future__ import annotations

import numpy as np
import pytest
from random_programs import assert_same, random_program, samples, wide_program, with_rounding
from refusals import complaint
from typed_layers import typed_layers

from po2quant.export.c.run import call
from po2quant.export.c.source import write_c
from po2quant.export.c.types import tensor_dtype
from po2quant.export.cores.emulator import CORES, checked_core, code_bytes, compile_for, count
from po2quant.fixed_point import HALF_AWAY, HALF_UP
from po2quant.integer.interpreter import run


def emulated(name: str) -> pytest.param:
    """Return a core as a parameter, skipped where its tools are missing."""
    missing = CORES[name].missing_tools()
    return pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed"))


PROGRAMS = (
    ("m0", 10, 16, False, "-O2"),
    ("m4", 303, 16, False, "-O3"),
    ("m4", 12, 8, True, "-O2"),
    ("m7", 13, 8, False, "-Os"),
    ("m55", 14, 16, True, "-O2"),
    ("m55", 15, 8, False, "-O3"),
    ("rv32imc", 16, 16, True, "-O1"),
)
"""A core, a seed, the most bits of tensors and weights, whether these are packed, and the optimization."""


@pytest.mark.parametrize(
    ("name", "seed", "most_bits", "pack", "level"),
    [pytest.param(name, *rest, marks=emulated(name).marks) for name, *rest in PROGRAMS],
)
def test_every_tensor_of_a_random_program(name, seed, most_bits, pack, level, tmp_path):
    """Tensors of 2 to 16 bits, signed or not, groups, strides, dilation, padding, residuals, tables."""
    program = random_program(seed, most_bits)
    inputs, source = samples(program, 2), write_c(program, tmp_path, "network", pack)
    executable = compile_for(CORES[name], source, tmp_path, trace=True, flags=(level,))
    assert_same(executable.run(inputs), run(program, inputs))


LAYERS = (
    ("m4", -3, True, False),
    ("m4", -16, False, True),
    ("m4", -16, True, True),
    ("m55", -3, False, True),
    ("m55", -3, True, True),
    ("m55", -16, False, True),
    ("m0", -3, True, True),
    ("rv32imc", -16, False, True),
)
"""A core, the exponent of the outputs, whether weights are packed, and whether the test is slow."""


LIBRARY = {"memcpy", "memmove", "memset"}
"""What the banner of a network says that it calls, beside what the compiler brings, whose names begin with __."""


@pytest.mark.parametrize(
    ("name", "exponent", "pack"),
    [pytest.param(*rest, marks=(*emulated(rest[0]).marks, *[pytest.mark.slow] * slow)) for *rest, slow in LAYERS],
)
def test_every_kernel_on_every_type(name, exponent, pack, tmp_path):
    """Dense layers, pixels, convolutions, depthwise: inputs of 8 and 16 bits, signed or not, weights of 4 to 16."""
    program = typed_layers(exponent)
    inputs, source = samples(program, 2), write_c(program, tmp_path, "layers", pack)
    executable = compile_for(CORES[name], source, tmp_path, trace=True, flags=("-O2",))
    assert_same(executable.run(inputs), run(program, inputs))
    lines = call([f"{CORES[name].compiler.removesuffix('gcc')}nm", "-u", tmp_path / "layers.o"]).splitlines()
    called = {line.split()[-1] for line in lines}
    assert {symbol for symbol in called if not symbol.startswith("__")} - LIBRARY == {"layers_trace"}


@pytest.mark.parametrize("name", [emulated("m0"), emulated("m4")])
def test_sums_of_64_bits(name, tmp_path):
    program = wide_program()
    inputs, source = samples(program, 2), write_c(program, tmp_path, "wide")
    executable = compile_for(CORES[name], source, tmp_path, trace=True)
    assert_same(executable.run(inputs), run(program, inputs))


@pytest.mark.parametrize(
    ("name", "rounding"),
    [pytest.param(name, mode, marks=emulated(name).marks) for name, mode in (("m4", HALF_AWAY), ("m55", HALF_UP))],
)
def test_other_rounding_than_half_to_even(name, rounding, tmp_path):
    program = with_rounding(random_program(17, 8), rounding)
    inputs, source = samples(program, 2), write_c(program, tmp_path, "network")
    executable = compile_for(CORES[name], source, tmp_path, trace=True)
    assert_same(executable.run(inputs), run(program, inputs))


@pytest.mark.parametrize("name", [emulated("m4")])
def test_a_count_repeats_and_leaves_the_harness_out(name, tmp_path):
    program = wide_program()
    inputs, source = samples(program, 1), write_c(program, tmp_path, "wide")
    executable = compile_for(CORES[name], source, tmp_path)
    counts = [count(CORES[name], executable, inputs) for _ in range(2)]
    assert counts[0] == counts[1]
    found, outputs = counts[0]
    assert found.total > program.counts(program.operations[0]).macs
    assert "wide_run" in found.instructions and not any(name.startswith("h_") for name in found.instructions)
    (output,) = program.outputs
    expected = run(program, inputs)[output.tensor].astype(tensor_dtype(program.tensor[output.tensor]))
    assert outputs == expected.tobytes()
    assert 0 < found.stack_bytes < 4096 and min(code_bytes(CORES[name], executable)) > 0


def test_an_unknown_core_and_missing_tools_are_refused(tmp_path, monkeypatch):
    assert "'m3'" in complaint(checked_core, "m3")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "gcc-arm-none-eabi" in complaint(checked_core, "m4")
    assert np.all([CORES[name].missing_tools() for name in CORES])
