"""Emulated microcontrollers compute every integer as the interpreter does, compiled without a warning."""

from __future__ import annotations

import numpy as np
import pytest
from random_programs import assert_same, random_program, samples, wide_program
from refusals import complaint

from po2quant.export.c.source import write_c
from po2quant.export.c.types import tensor_dtype
from po2quant.export.cores.emulator import CORES, checked_core, code_bytes, compile_for, count
from po2quant.integer.interpreter import run


def emulated(name: str) -> pytest.param:
    """Return a core as a parameter, skipped where its tools are missing."""
    missing = CORES[name].missing_tools()
    return pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed"))


PROGRAMS = {
    "m0": (10, False, "-O2"),
    "m4": (11, False, "-O3"),
    "m7": (12, True, "-Os"),
    "m55": (13, False, "-O2"),
    "rv32imc": (14, True, "-O1"),
}
"""A seed, whether weights are packed, and the optimization, by core."""


@pytest.mark.parametrize("name", map(emulated, CORES))
def test_every_tensor_of_a_random_program(name, tmp_path):
    """Sizes of 2 to 16 bits, signed or not, groups, strides, dilation, padding, residuals, tables."""
    seed, pack, level = PROGRAMS[name]
    program = random_program(seed)
    inputs, source = samples(program, 2), write_c(program, tmp_path, "network", pack)
    executable = compile_for(CORES[name], source, tmp_path, trace=True, flags=(level,))
    assert_same(executable.run(inputs), run(program, inputs))


@pytest.mark.parametrize("name", [emulated("m0"), emulated("m4")])
def test_sums_of_64_bits(name, tmp_path):
    program = wide_program()
    inputs, source = samples(program, 2), write_c(program, tmp_path, "wide")
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
