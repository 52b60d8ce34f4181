"""What firmware takes: C++ linkage, an arena of its own, sections, a self-test, floats in and out, projects."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from random_programs import random_program
from refusals import complaint
from selections import slow_but

from po2quant.export.c.firmware import MLPERF_TINY, MODELS, PROJECTS, write_firmware
from po2quant.export.c.run import COMPILER, FLAGS
from po2quant.export.c.source import write_c
from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.interpreter import quantize_inputs, run
from po2quant.integer.operations import Dense, Requantize, Tensor, Weights
from po2quant.integer.program import Output, Program

needs_gcc = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")
needs_cpp = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")


def small() -> Program:
    kernel = Weights(np.arange(-6, 6).reshape(4, 3), np.full(3, -5), 8)
    bias = Weights(np.array([3, -1, 0]), np.full(3, -9), 8)
    tensors = (Tensor("x", (4,), FixedPointFormat(8, -5)), Tensor("y", (3,), FixedPointFormat(8, -4)))
    return Program("small", tensors, ("x",), (Dense("layer", ("x",), "y", kernel, bias),), (Output("y"),))


def run_command(*command, folder) -> subprocess.CompletedProcess:
    return subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=True)


@needs_gcc
def test_a_self_test_passes_and_finds_a_changed_weight(tmp_path):
    """It needs no file; a network of several inputs and outputs has one too."""
    for name, program in (("small", small()), ("many", random_program(3))):
        write_firmware(program, tmp_path, name)
        build = [COMPILER, *FLAGS, "-Werror", f"-D{name.upper()}_TEST_MAIN", f"{name}_test.c", f"{name}.c"]
        run_command(*build, "-o", name, folder=tmp_path)
        run_command(tmp_path / name, folder=tmp_path)
    source = tmp_path / "small.c"
    changed = source.read_text().replace("-6", "-5", 1)
    assert changed != source.read_text()
    source.write_text(changed)
    build = [COMPILER, "-DSMALL_TEST_MAIN", "small_test.c", "small.c", "-o", "changed"]
    run_command(*build, folder=tmp_path)
    assert subprocess.run([tmp_path / "changed"], check=False).returncode == 1


CPP = """
#include "net.h"
#include "net_io.h"
#include <cstdio>
#include <cstdlib>
alignas(8) static unsigned char arena[NET_ARENA_BYTES + 1];
static int layers;
extern "C" void net_layer_done(const char *layer) { layers += layer[0] == 't'; }
int main(int count, char **values)
{
    int8_t input[NET_INPUT_SIZE], output[NET_OUTPUT_SIZE];
    for (int i = 1; i < count; i += NET_INPUT_SIZE) {
        for (int k = 0; k < NET_INPUT_SIZE; ++k)
            input[k] = net_quantize_input(std::strtof(values[i + k], nullptr));
        net_run_with(arena, input, output);
        for (int k = 0; k < NET_INPUT_SIZE; ++k)
            std::printf("%d ", input[k]);
        std::printf("%ld %.9g %d\\n", (long)net_argmax_output(output), net_value_of_output(output[0]), layers);
    }
}
"""


@needs_gcc
@needs_cpp
def test_cpp_calls_it_with_an_arena_of_its_own_and_floats(tmp_path):
    """No static arena is left, constants lie in a section, layers report, ties round to even, NaN is the lowest."""
    write_firmware(small(), tmp_path, "net")
    (tmp_path / "main.cpp").write_text(CPP)
    section = '-DNET_WEIGHT_ATTRIBUTES=__attribute__((section(".slow_flash")))'
    flags = [*FLAGS, "-O0", "-Werror", "-DNET_NO_ARENA", "-DPO2QUANT_PROFILE", section]
    run_command(COMPILER, *flags, "-c", "net.c", folder=tmp_path)
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Werror", "-DPO2QUANT_PROFILE"]
    run_command("g++", "-std=c++17", *warnings, "main.cpp", "net.o", "-o", "main", folder=tmp_path)
    assert ".slow_flash" in run_command("objdump", "-h", "net.o", folder=tmp_path).stdout
    assert "arena" not in run_command("nm", "net.o", folder=tmp_path).stdout
    values = [0.5 / 32, 1.5 / 32, -2.5 / 32, 9.0, -9.0, float("nan"), 0.3, -0.7]
    lines = run_command(tmp_path / "main", *values, folder=tmp_path).stdout.splitlines()
    found = [list(map(int, line.split()[:4])) for line in lines]
    expected = quantize_inputs(small(), np.array(values[:5] + values[6:], np.float32)[:4].reshape(1, 4))[0]
    assert found == [expected[0].tolist(), [-128, -128, 10, -22]]
    assert [line.split()[-1] for line in lines] == ["1", "2"]


@needs_cmake
@needs_gcc
def test_the_cmake_project_tests_itself(tmp_path):
    write_firmware(small(), tmp_path, "net", project="cmake")
    run_command("cmake", "-B", "build", folder=tmp_path)
    run_command("cmake", "--build", "build", folder=tmp_path)
    assert "100% tests passed" in run_command("ctest", "--test-dir", "build", folder=tmp_path).stdout


def network_of_sizes(inputs: int, outputs: int) -> Program:
    """Return a network that sends its inputs on, or a layer where there are fewer outputs."""
    rng = np.random.default_rng(0)
    tensors = (
        Tensor("x", (inputs,), FixedPointFormat(8, -1 if inputs == outputs else 0)),
        Tensor("y", (outputs,), FixedPointFormat(8, -3)),
    )
    if inputs == outputs:
        return Program("net", tensors, ("x",), (Requantize("r", ("x",), "y"),), (Output("y"),))
    kernel = Weights(rng.integers(-8, 8, (inputs, outputs)), np.full(outputs, -10), 4)
    layer = Dense("layer", ("x",), "y", kernel, Weights(np.zeros(outputs, int), np.full(outputs, -9), 2))
    return Program("net", tensors, ("x",), (layer,), (Output("y"),))


def sent_and_real(model: str, inputs: int) -> tuple[bytes, np.ndarray]:
    """Return random bytes as the runner sends them, and the inputs that they stand for."""
    rng = np.random.default_rng(1)
    if model == "ad01":
        real = rng.uniform(-20, 20, inputs).astype(np.float32)
        return real.tobytes(), real
    integers = rng.integers(0, 256, inputs).astype(np.uint8)
    if model == "kws01":
        return integers.tobytes(), (integers.view(np.int8).astype(np.float32) - 83) * np.float32(0.5847029)
    return integers.tobytes(), integers.astype(np.float32) / np.float32(255 if model == "vww01" else 1)


@needs_gcc
@pytest.mark.parametrize(("sizes", "model"), [(sizes, model) for sizes, (model, *_) in MODELS.items()])
def test_the_harness_answers_the_runner_of_mlperf_tiny(sizes, model, tmp_path):
    """Inputs in hexadecimal, any number of bytes a command; probabilities, or the error of an auto-encoder."""
    program = network_of_sizes(*sizes)
    write_firmware(program, tmp_path, "net", project=MLPERF_TINY)
    flags = [*FLAGS, "-Werror", "-O1"]
    run_command(COMPILER, *flags, "harness/harness.c", "harness/board.c", "net.c", "-lm", "-o", "h", folder=tmp_path)
    sent, real = sent_and_real(model, sizes[0])
    digits = sent.hex()
    parts = [f"db {digits[i : i + 62]}" for i in range(0, len(digits), 62)]
    commands = ["name", "profile", f"db load {len(sent)}", *parts, "infer 2 1", "db 1", "db load 99999999", "dance"]
    told = subprocess.run(
        [tmp_path / "h"], input="%\n".join(commands) + "%", capture_output=True, text=True, check=True
    )
    lines = [line for line in told.stdout.splitlines() if line != "m-ready"]
    assert told.stdout.count("m-ready") == 1 + len(commands)
    assert lines[:5] == [
        "m-init-done",
        "m-name-dut-[net]",
        "m-profile-[ULPMark for tinyML Firmware V0.0.1]",
        f"m-model-[{model}]",
        f"m-[Expecting {len(sent)} bytes]",
    ]
    assert lines[5:9] == ["m-load-done", "m-warmup-start-1", "m-warmup-done", "m-infer-start-2"]
    assert all(line.removeprefix("m-lap-us-").isdigit() for line in lines[9:11]) and lines[11] == "m-infer-done"
    assert [line[:3] for line in lines[13:]] == ["e-["] * 3 and "dance" in lines[-1]
    integers = run(program, quantize_inputs(program, real[None]))["y"][0]
    values = np.ldexp(integers.astype(float), -3)
    weights = np.exp(values - values.max())
    expected = [np.mean((values - real) ** 2)] if model == "ad01" else weights / weights.sum()
    found = lines[12].removeprefix("m-results-[").removesuffix("]").split(",")
    np.testing.assert_allclose(
        np.array(found, float), expected, rtol=1e-4, atol=0.0006
    )  # three places behind the point


def test_a_harness_is_for_the_networks_of_mlperf_tiny_alone(tmp_path):
    assert "Received: 4 to 3" in complaint(write_firmware, small(), tmp_path / "new", "net", project=MLPERF_TINY)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("project", PROJECTS)
def test_a_project_has_every_file_that_its_texts_name(project, tmp_path):
    program = network_of_sizes(490, 12) if project == MLPERF_TINY else small()
    files = write_firmware(program, tmp_path, "net", project=project)
    assert all(file.is_file() for file in files)
    names = {file.name for file in files}
    assert {"net.c", "net.h", "net_io.h", "net_test.c"} <= names and "net_main.c" not in names
    assert not any("$" in file.read_text().replace("${CMAKE", "") for file in files)


def test_an_unknown_project_is_refused(tmp_path):
    assert "'make'" in complaint(write_firmware, small(), tmp_path, "net", project="make")


@needs_gcc
@pytest.mark.parametrize("compiler", slow_but((COMPILER,), (COMPILER, "clang")))
def test_no_compiler_warns_of_plain_c_or_vectors(compiler, tmp_path):
    """Of the network, of C99 alone, with the hooks."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    source = write_c(random_program(0), tmp_path, "net", pack=True)
    for macros in ([], ["-DPO2QUANT_PLAIN_C"], ["-DPO2QUANT_TRACE", "-DPO2QUANT_PROFILE"]):
        run_command(compiler, *FLAGS, "-O1", "-Werror", "-pedantic", *macros, "-c", source.source, folder=tmp_path)
