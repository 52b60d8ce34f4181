"""What firmware needs beside a network in C: real numbers in and out, a self-test without files, projects of builds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from po2quant.export.c.operations import array_text
from po2quant.export.c.source import CSource, caller_tensors, filled, write_c
from po2quant.export.c.types import c_integer, tensor_dtype
from po2quant.files import replaced_whole
from po2quant.fixed_point import FLOOR, HALF_AWAY, HALF_EVEN, HALF_UP
from po2quant.integer.interpreter import run
from po2quant.integer.listing import ROUNDING_WORDS
from po2quant.integer.operations import Tensor
from po2quant.integer.program import Program

TEST_SAMPLES = 2

QUANTIZERS = {
    mode: {"how": f"rounded {ROUNDING_WORDS[mode]}", "goes_up": goes_up, "goes_down": goes_down}
    for mode, goes_up, goes_down in (
        (
            HALF_EVEN,
            "rest > 0.5f || (rest == 0.5f && integer % 2 != 0)",
            "rest < -0.5f || (rest == -0.5f && integer % 2 != 0)",
        ),
        (HALF_UP, "rest >= 0.5f", "rest < -0.5f"),
        (HALF_AWAY, "rest >= 0.5f", "rest <= -0.5f"),
        (FLOOR, "0", "rest < 0.0f"),
    )
}
"""How a value is rounded in C: in words, and when the integer next to it on the side of 0 goes up or down."""


def io_header(source: CSource) -> str:
    """Return ``<name>_io.h``: for each input a function from float, for each output one to float, and the argmax."""
    functions = []
    inputs, outputs = caller_tensors(source.program)
    for template, tensors in (("quantize.h", inputs), ("dequantize.h", outputs)):
        for parameter, tensor in tensors:
            exponent = tensor.format.exponent * (-1 if template == "quantize.h" else 1)
            fields = {"name": source.name, "prefix": source.name.upper(), "tensor": parameter}
            fields |= {
                "macro": parameter.upper(),
                "type": _c_type(tensor),
                "scale": repr(float(np.ldexp(1.0, exponent))),
            }
            fields |= {"low": c_integer(tensor.format.min_int), "high": c_integer(tensor.format.max_int)}
            functions.append(filled(template, **fields, **QUANTIZERS[tensor.format.rounding]))
    return filled("io.h", name=source.name, prefix=source.name.upper(), functions="\n".join(functions).rstrip())


def self_test(source: CSource, samples: int = TEST_SAMPLES, seed: int = 0) -> str:
    """Return ``<name>_test.c``: random inputs, and the outputs that the interpreter makes of them."""
    program, rng = source.program, np.random.default_rng(seed)
    inputs, outputs = caller_tensors(program)
    values = [rng.integers(t.format.min_int, t.format.max_int + 1, (samples, *t.shape)) for _, t in inputs]
    expected = run(program, values)
    declared, comparisons = [], []
    for (parameter, tensor), integers in zip(inputs, values, strict=True):
        declared.append(_samples(f"{parameter}_samples", tensor, integers))
    for parameter, tensor in outputs:
        declared.append(_samples(f"{parameter}_expected", tensor, expected[tensor.name]))
        declared.append(f"static {_c_type(tensor)} {parameter}[{tensor.size}];\n")
        comparisons += [
            f"        for (int32_t i = 0; i < {tensor.size}; ++i)",
            f"            differing += {parameter}[i] != {parameter}_expected[sample][i];",
        ]
    arguments = [f"{parameter}_samples[sample]" for parameter, _ in inputs] + [parameter for parameter, _ in outputs]
    return filled(
        "self_test.c",
        name=source.name,
        prefix=source.name.upper(),
        samples=samples,
        vectors="\n".join(declared).rstrip(),
        arguments=", ".join(arguments),
        comparisons="\n".join(comparisons),
    )


def _samples(name: str, tensor: Tensor, integers: np.ndarray) -> str:
    rows = [f"    {{\n{array_text(sample.ravel())}    }},\n" for sample in integers]
    return f"static const {_c_type(tensor)} {name}[{len(integers)}][{tensor.size}] = {{\n{''.join(rows)}}};\n"


def _c_type(tensor: Tensor) -> str:
    return f"{tensor_dtype(tensor).name}_t"


MLPERF_TINY = "mlperf-tiny"
_FLOAT = """    float value;
    memcpy(&value, buffer + 4 * i, sizeof value);
    return value;"""
MODELS = {
    (490, 12): ("kws01", 1, "features of 8 bits", "    return (float)((int8_t)buffer[i] - 83) * 0.5847029f;"),
    (3072, 10): ("ic01", 1, "pixels of 8 bits", "    return (float)buffer[i];"),
    (27648, 2): (
        "vww01",
        1,
        "pixels of 8 bits, of which the network sees 1 / 255",
        "    return (float)buffer[i] / 255.0f;",
    ),
    (640, 640): ("ad01", 4, "features as float", _FLOAT),
}
"""The networks of MLPerf Tiny by their numbers of inputs and outputs: the model's name, the bytes of an input that the
runner sends, what they are, and the statements that return their value."""

PROJECTS: dict[str, tuple[str, dict[str, str]]] = {
    "cmake": ("", {"CMakeLists.txt": "CMakeLists.txt"}),
    "zephyr": (
        "src",
        {
            "zephyr/module.yml": "zephyr_module.yml",
            "zephyr/CMakeLists.txt": "zephyr_CMakeLists.txt",
            "zephyr/Kconfig": "zephyr_Kconfig",
        },
    ),
    "arduino": (
        "src",
        {"library.properties": "library.properties", "examples/self_test/self_test.ino": "self_test.ino"},
    ),
    MLPERF_TINY: (
        "",
        {
            "CMakeLists.txt": "CMakeLists.txt",
            "harness/CMakeLists.txt": "harness_CMakeLists.txt",
            "harness/harness.c": "harness.c",
            "harness/board.h": "board.h",
            "harness/board.c": "board.c",
        },
    ),
}
"""Where a build looks for sources, and its own files with the templates that they are made of."""


def write_firmware(
    program: Program, folder: str | os.PathLike, name: str, pack: bool = False, project: str = "cmake"
) -> list[Path]:
    """Write a network in C with its self-test, in a folder that a build system takes.

    Args:
        program: the network.
        folder: where the project goes; it is made if there is none.
        name: as :func:`po2quant.export.c.source.write_c` takes it.
        pack: as there.
        project: ``'cmake'``, ``'zephyr'`` (a module), ``'arduino'`` (a library), or ``'mlperf-tiny'``: cmake's, and a
            harness for one of its four networks that answers the runner's commands over a serial line.

    Returns:
        The files.

    Raises:
        ValueError: for another project or name, or for a harness of a network that is not MLPerf Tiny's.
    """
    if project not in PROJECTS:
        raise ValueError(f"project must be one of {', '.join(PROJECTS)}. Received: {project!r}")
    fields = _harness_fields(program) if project == MLPERF_TINY else {}
    folder, (sources, files) = Path(folder), PROJECTS[project]
    source = write_c(program, folder / sources, name, pack)
    source.main.unlink()
    texts: dict[str, Callable[[CSource], str]] = {f"{name}_io.h": io_header, f"{name}_test.c": self_test}
    written = [source.header, source.source]
    for file, make in texts.items():
        written.append(_write(folder / sources / file, make(source)))
    for file, template in files.items():
        written.append(_write(folder / file, filled(template, name=name, prefix=name.upper(), **fields)))
    return written


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_whole(path) as temporary:
        temporary.write_text(text, encoding="ascii")
    return path


def _harness_fields(program: Program) -> dict[str, object]:
    """Return what the harness of MLPerf Tiny says of a network."""
    tensors = [program.tensor[name] for name in (*program.inputs, *(output.tensor for output in program.outputs))]
    sizes = tuple(tensor.size for tensor in tensors)
    if sizes not in MODELS:
        known = ", ".join(f"{model} ({x} to {y})" for (x, y), (model, *_) in MODELS.items())
        raise ValueError(f"a network of MLPerf Tiny must be one of {known}. Received: {' to '.join(map(str, sizes))}")
    model, input_bytes, words, statements = MODELS[sizes]
    return {
        "model": model,
        "input_bytes": input_bytes * sizes[0],
        "input_type": _c_type(tensors[0]),
        "output_type": _c_type(tensors[1]),
        "is_anomaly": int(model == "ad01"),
        "input_words": words,
        "real_input": statements,
    }
