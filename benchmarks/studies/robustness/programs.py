"""Integer programs, bit configurations and quantizers: what is parsed without a network."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.studies.robustness.cases import Case, InputClass
from benchmarks.studies.robustness.values import CANARY
from po2quant.bit_config import BitConfig
from po2quant.fixed_point import FixedPointFormat
from po2quant.integer import operations as ops
from po2quant.integer.program import Output, Program

_X, _Y = FixedPointFormat(8, -5, True, True), FixedPointFormat(6, -2, False)
PROGRAM, CONFIG, QUANTIZER = "network.npz", "config.json", "quantizer.txt"
QUANTIZERS = (
    "quantized_bits(8,0,1,alpha='auto_po2')",
    "quantized_bits(4, 0, 1, alpha=1.0, keep_negative=True, scale_axis=0, qnoise_factor=0.5)",
    "quantized_bits_featuremap(8,8,1,1,alpha='auto_po2',scale_axis=0)",
    "quantized_bits_featuremap(bits=6, integer=2, symmetric=1, keep_negative=False)",
)


def example_programs() -> list[Program]:
    """Return small programs that have each operation among them."""
    rng = np.random.default_rng(0)

    def weights(*shape: int, bits: int = 8) -> ops.Weights:
        high = 2 ** (bits - 1) - 1
        return ops.Weights(rng.integers(-high, high + 1, shape), rng.integers(-9, -3, shape[-1]), bits)

    images = {"x": (6, 5, 4), "pad": (7, 6, 4), "conv": (3, 3, 8), "low": (3, 3, 8), "gate": (1, 1, 8)}
    images |= {"gated": (3, 3, 8), "sum": (3, 3, 8), "f": (3, 3, 8), "join": (3, 3, 16), "max": (2, 2, 16)}
    images |= {"flat": (64,), "y": (3,)}
    formats = dict.fromkeys(images, _Y) | {"x": _X, "pad": _X, "y": _X}
    convolution = weights(3, 3, 1, 8), weights(8, bits=31), (2, 2), (1, 1), ((0, 0), (1, 0)), 4, "relu6"
    operations = (
        ops.ZeroPadding("pad", ("x",), "pad", ((0, 1), (1, 0))),
        ops.Conv2D("conv", ("pad",), "conv", *convolution),
        ops.Requantize("low", ("conv",), "low", "relu"),
        ops.AveragePooling("gate", ("conv",), "gate", (3, 3), (1, 1)),
        ops.Multiply("multiply", ("low", "gate"), "gated"),
        ops.Add("add", ("gated", "conv"), "sum", "relu"),
        ops.LookUpTable("swish", ("sum",), "f", rng.integers(0, 64, 64), "silu"),
        ops.Concatenate("join", ("f", "low"), "join", 2),
        ops.MaxPooling("max", ("join",), "max", (2, 2), (1, 1)),
        ops.Reshape("flatten", ("max",), "flat"),
        ops.Dense("dense", ("flat",), "y", weights(64, 3), weights(3, bits=16)),
    )
    tensors = tuple(ops.Tensor(name, shape, formats[name]) for name, shape in images.items())
    every = Program("every", tensors, ("x",), operations, (Output("y", "softmax"), Output("flat")))
    pair = tuple(ops.Tensor(name, (size,), _X) for name, size in (("x", 5), ("y", 2)))
    dense = ops.Dense("dense", ("x",), "y", weights(5, 2), weights(2, bits=16), "relu")
    return [every, Program("dense", pair, ("x",), (dense,), (Output("y"),))]


def write_everything(program: Program, folder: Path) -> None:
    """Plan, list, run and write a program in every form.

    Raises:
        RuntimeError: where the C text has what only a wrong program has.
    """
    from po2quant.export.c.source import write_c
    from po2quant.export.litert.to_litert import to_litert
    from po2quant.export.onnx.to_onnx import to_onnx
    from po2quant.export.onnx.to_qonnx import to_qonnx
    from po2quant.integer.interpreter import run
    from po2quant.integer.listing import listing

    listing(program)
    for pack in (False, True):
        write_c(program, folder / f"c{pack:d}", "network", pack)
        for file in (folder / f"c{pack:d}").iterdir():
            if f'"touch {CANARY}' in file.read_text(encoding="utf-8", errors="replace"):
                (folder / CANARY).touch()
    refused = []
    for write, name in ((to_onnx, "a.onnx"), (to_qonnx, "b.onnx"), (to_litert, "c.tflite")):
        try:
            write(program, folder / name)
        except ValueError as error:  # a form may not know an operation or a width
            refused.append(error)
    if sum(np.prod(tensor.shape, dtype=float) for tensor in program.tensors) < 1e6:
        inputs = [np.zeros((1, *program.tensor[name].shape), np.int64) for name in program.inputs]
        run(program, inputs)


def read_program(folder: Path, words: tuple[str, ...]) -> None:
    """Load a program, and write it in every form."""
    write_everything(Program.load(folder / PROGRAM), folder)


def read_config(folder: Path, words: tuple[str, ...]) -> None:
    """Load a bit configuration, and write it again."""
    BitConfig.load(folder / CONFIG).save(folder / "again.json")


def read_quantizer(folder: Path, words: tuple[str, ...]) -> None:
    """Make a quantizer of text."""
    from po2quant.quantizers import get_quantizer

    get_quantizer((folder / QUANTIZER).read_bytes().decode("utf-8", errors="replace"))


def _programs() -> Sequence[Case]:
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for program in example_programs():
            program.save(Path(folder, PROGRAM))
            cases.append(Case(read_program, {PROGRAM: Path(folder, PROGRAM).read_bytes()}))
    return cases


def _configs() -> Sequence[Case]:
    flat = BitConfig.flat(["conv", "dense"], ["conv", "input"], 8)
    mixed = flat.with_alphas({"conv": "learned_po2"})
    return [Case(read_config, {CONFIG: config.to_json().encode()}) for config in (flat, mixed)]


def _quantizers() -> Sequence[Case]:
    return [Case(read_quantizer, {QUANTIZER: text.encode()}) for text in QUANTIZERS]


CLASSES = (
    InputClass("program", _programs),
    InputClass("bit_config", _configs),
    InputClass("quantizer", _quantizers),
)
