"""``po2quant export`` and ``po2quant verify``."""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from po2quant.benchmark import Benchmark
from po2quant.bit_config import FLOAT, MPQ, POWERS_OF_TWO, BitConfig
from po2quant.cli.options import DATA, WHICH, CalibrationDataOption, Task, with_task
from po2quant.cli.output import Facts, Verdict, say
from po2quant.cli.session import (
    RUNS,
    TEST_INPUTS,
    begin,
    calibrating,
    check_calibration_data,
    load_dataset,
    say_calibration,
)
from po2quant.runs.folder import check_writable
from po2quant.runs.names import BEST_CONFIG, BEST_WEIGHTS, COMPARISON_FOLDER
from po2quant.runs.request import NetworkRequest, check_trusted, network_of_run
from po2quant.weight_files import is_quantized_checkpoint

if TYPE_CHECKING:
    from po2quant.training.finetune import Experiment

MISMATCH = 1
C_FOLDER = "c"

RunArgument = Annotated[
    Path | None, typer.Argument(help="Run folder of finetune or search, or one cell of a matrix; options win over it.")
]
OF_RUN = {
    "weights": Annotated[
        Path | None, typer.Option("--weights", help="Float weights, which are calibrated, or a fine-tuned run folder.")
    ],
    "config": Annotated[
        str | None, typer.Option("--config", help="Bit widths, as in the other commands; by default RUN's, or mpq.")
    ],
    "calibration": Annotated[
        str | None, typer.Option("--calibration", help="As in the other commands; by default RUN's, or mse.")
    ],
    "target": Annotated[
        str | None, typer.Option("--target", help="As in the other commands; by default RUN's, or generic.")
    ],
    "seed": Annotated[
        int | None, typer.Option("--seed", help="Seed of data splits and calibration; by default RUN's, or 0.")
    ],
}


@with_task(OF_RUN, WHICH, DATA)
def export(
    task: Task,
    run: RunArgument = None,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="text: every tensor, shift and width. program: integers that the interpreter loads. "
            "c: C99. c-packed: C99, weights in their own number of bits. cmake, zephyr, arduino: C99 with a self-test, "
            "as such a project. mlperf-tiny: the same under the benchmark's commands. qonnx, onnx, litert, qkeras: "
            "files for other tools, see docs/exchange.md. hls4ml: QONNX in the form that it "
            "reads. espdl: for ESP32-P4 and ESP32-S3, see docs/targets.md.",
        ),
    ] = "text",
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", help="Where the files go; by default a folder under runs/, and a text is shown."),
    ] = None,
    calibration_data: CalibrationDataOption = None,
) -> Facts:
    """Write a network as integers and shifts."""
    from po2quant.deploy.formats import TEXT, check_format, notes, write

    check_format(format)
    if output_dir is not None:
        check_writable(output_dir)
    subject = _subject(_request(run, task), calibration_data, needs_data=False)
    from po2quant.export.c.source import memory_bytes
    from po2quant.integer.listing import listing
    from po2quant.report.record import save_exports

    facts: Facts = subject.facts() | {"format": format}
    if format == TEXT and output_dir is None:
        say(listing(subject.program))
    else:
        folder = output_dir or RUNS / f"export-{subject.name}"
        files = {str(path): path.stat().st_size for path in write(format, *subject.written(), folder)}
        for path, size in files.items():
            say(f"{format}: {path}, {size} bytes")
        for note in notes(format, subject.program):
            say(f"note: {note}")
        facts |= {"files": files, "notes": notes(format, subject.program)}
        if run is not None and not task.keys() & {"weights", "config"} and os.access(run, os.W_OK):
            save_exports(run, {f"{format}, {Path(path).name}": size for path, size in files.items()})
    for label, pack in (("", False), (" with packed weights", True)):
        weight_bytes, arena_bytes = memory_bytes(subject.program, pack)
        say(f"C{label}: {weight_bytes} bytes of constants, {arena_bytes} bytes of arena")
        suffix = "_packed" * pack
        facts |= {f"weight_bytes{suffix}": weight_bytes, f"arena_bytes{suffix}": arena_bytes}
    return facts


@with_task(OF_RUN, WHICH, DATA)
def verify(
    task: Task,
    run: RunArgument = None,
    samples: Annotated[
        int, typer.Option("--samples", help="Inputs of the test split that are compared, spread evenly over it.")
    ] = 200,
    with_score: Annotated[
        bool, typer.Option("--score", help="Also score the C program on the whole test split, beside Keras.")
    ] = False,
    core: Annotated[
        str | None,
        typer.Option("--core", help="Run the C on an emulated core, not here: m0, m4, m7, m55 or rv32imc."),
    ] = None,
    calibration_data: CalibrationDataOption = None,
) -> Facts:
    """Prove that Keras in float64, the interpreter and the compiled C compute the same integers."""
    if samples < 1:
        raise ValueError(f"--samples must be 1 or more. Received: {samples}")
    if core is not None:
        from po2quant.export.cores.emulator import checked_core

        checked_core(core)
    subject = _subject(_request(run, task), calibration_data)
    from po2quant.deploy.network import spread_inputs

    x = spread_inputs(subject.dataset.test, subject.network, samples)
    request = subject.request
    say(f"{subject.task.name} {request.model}, {request.name}, on {subject.dataset.describe()}")
    if len(x) < samples:
        say(f"the test split has {len(x)} inputs: all are compared, not {samples}")
    facts = subject.facts() | _verified(subject, x, with_score, core)
    if facts["mismatches"]:
        raise Verdict(MISMATCH, facts)
    return facts


def _verified(subject: _Subject, x: Any, with_score: bool, core: str | None = None) -> dict[str, Any]:
    """Verify a network on inputs, and score it on the test split if asked to; say and return what came out."""
    from po2quant.deploy.verify import score, verify
    from po2quant.export.c.run import compile_c
    from po2quant.export.c.source import write_c
    from po2quant.export.cores.emulator import CORES, compile_for
    from po2quant.progress import progress_line

    with tempfile.TemporaryDirectory() as folder:
        source = write_c(subject.program, folder, "network")
        if core is None:
            executable = compile_c(source, folder, trace=True)
        else:
            say(f"the C runs on an emulated {CORES[core].label}")
            executable = compile_for(CORES[core], source, folder, trace=True)
        with progress_line("verify", len(x)) as line:
            found = verify(subject.program, subject.network, executable, x, line)
        _say_verification(found)
        facts = found.to_dict() | {"weight_bytes": source.weight_bytes, "arena_bytes": source.arena_bytes}
        if with_score:
            plain = compile_c(source, Path(folder, "plain"))
            scores = score(subject.task, subject.network, plain, subject.dataset.test)
            say(str(scores))
            facts |= scores.to_dict()
            if len(scores.decided_otherwise):
                say(f"{len(scores.decided_otherwise)} inputs that Keras in float32 decides otherwise:")
                found = verify(subject.program, subject.network, executable, scores.decided_otherwise)
                _say_verification(found)
                facts["mismatches"] += found.mismatches
                facts["first"] = facts["first"] or found.to_dict()["first"]
    return facts


def _say_verification(found: Any) -> None:
    say(str(found.keras))
    say(str(found.c))
    for name in found.inexact:
        say(f"note: sums of {name} may need more bits than float64 has")


@dataclasses.dataclass(frozen=True)
class _Subject:
    """A frozen network, its program, and what it was made from."""

    task: Benchmark
    request: NetworkRequest
    dataset: Any
    network: Any
    program: Any

    @property
    def name(self) -> str:
        """A C identifier."""
        return re.sub(r"\W", "_", f"{self.task.name}_{self.request.model}_{self.request.name}", flags=re.ASCII)

    def written(self) -> tuple[Any, Any, str]:
        """Return what :func:`po2quant.deploy.formats.write` takes after the format."""
        return self.network, self.program, self.name

    def facts(self) -> Facts:
        """Return what the network was made from, as JSON has it."""
        return {
            "benchmark": self.task.name,
            "model": self.request.model,
            "config": self.request.name,
            "weights": str(self.request.weights or self.request.network),
            "data": None if self.dataset is None else self.dataset.describe(),
            "seed": self.request.seed,
        }


def write_found(experiment: Experiment, folder: Path) -> None:
    """Write the best configuration of a search as C, as its network is after it was trained again, and say its size."""
    from po2quant.deploy.formats import write
    from po2quant.deploy.from_keras import integer_program
    from po2quant.deploy.network import frozen_network
    from po2quant.export.c.source import memory_bytes

    trained = folder / COMPARISON_FOLDER / MPQ
    weights = trained if (trained / BEST_WEIGHTS).is_file() else folder
    widths = experiment.completed(BitConfig.load(folder / BEST_CONFIG))
    model = frozen_network(experiment.spec, widths, weights, experiment.dataset, experiment.seed, experiment.alpha)
    program = integer_program(model)
    name = re.sub(r"\W", "_", f"{experiment.benchmark.name}_{experiment.model}_{MPQ}", flags=re.ASCII)
    source = max(write("c", model, program, name, folder / C_FOLDER), key=lambda path: path.stat().st_size)
    weight_bytes, arena_bytes = memory_bytes(program)
    size = source.stat().st_size
    say(f"C: {source}, {size} bytes of text, {weight_bytes} bytes of constants, {arena_bytes} bytes of arena")


def _request(run: Path | None, given: Task) -> NetworkRequest:
    """Return what is asked for: what a run was, without its data where others are given, and what is given."""
    if run is None and "weights" not in given and "network" not in given:
        raise ValueError(
            "a network is needed: RUN, a run folder, or --weights, a weight file, or --network. Received: none"
        )
    if run is None:
        return NetworkRequest(**given)
    request = network_of_run(run, POWERS_OF_TWO)
    request = request.changed(**given | ({"config_name": None} if "config" in given else {}))
    check_trusted(request, given.get("benchmark"), run)
    return request


def _subject(request: NetworkRequest, calibration_data: Path | None, needs_data: bool = True) -> _Subject:
    """Freeze a network and lower it to integers."""
    if request.config == FLOAT:
        raise ValueError("--config must name bit widths: a float network has no integers. Received: 'float'")
    check_calibration_data(calibration_data, request)
    task, request = begin(request, needs_data=needs_data)
    from po2quant.deploy.from_keras import integer_program
    from po2quant.deploy.network import frozen_network
    from po2quant.training.prepare import resolve_config

    _, spec = task.network(request.model)
    widths, dataset = resolve_config(request.config, spec), None
    is_float = request.weights is None or not is_quantized_checkpoint(request.weights)
    if needs_data or (is_float and calibration_data is None):
        dataset = load_dataset(task, request)
    inputs = calibrating(task, request, dataset, calibration_data) if is_float else dataset
    if is_float and inputs is not None:
        say_calibration(TEST_INPUTS if inputs.train is None else "train", calibration_data)
    widths = None if widths is None else widths.with_calibration(request.calibration)
    network = frozen_network(spec, widths, request.weights, inputs, request.seed, request.alpha)
    return _Subject(task, request, dataset, network, integer_program(network))
