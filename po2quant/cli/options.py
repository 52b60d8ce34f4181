"""Options that several commands share."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from po2quant.benchmark import benchmark_names
from po2quant.cli.option_files import read_options
from po2quant.cli.output import Talk, Verdict
from po2quant.own_task.metrics import LOSSES, METRICS
from po2quant.runs.request import RunRequest
from po2quant.targets import TARGETS
from po2quant.uniform import CONFIG_HELP

Command = Callable[..., Any]
Task = dict[str, Any]
"""What the options of a task, and of a run, say, by name of a field of the run's request, where they do."""

WHICH = {
    "benchmark": Annotated[
        str | None,
        typer.Option(
            "--benchmark",
            autocompletion=benchmark_names,
            help=f"{', '.join(benchmark_names())}, or your own as package.module:attribute; by default digits, or what "
            "RUN says.",
        ),
    ],
    "model": Annotated[str | None, typer.Option("--model", help="Network of the benchmark; its first by default.")],
    "network": Annotated[
        Path | None,
        typer.Option(
            "--network",
            help="Your own float network in place of a benchmark: .keras, .h5 of Keras 3 or 2, or JSON with --weights; "
            "its weights are those of the file unless --weights names others.",
        ),
    ],
}
DATA = {
    "data": Annotated[
        str | None,
        typer.Option(
            "--data",
            help="official: downloaded to --data-dir (data/<benchmark> by default) unless it is there. synthetic: "
            "generated. Or a path. Of a benchmark: folder, zip or npz as its README says. Of a network: .npz with "
            "x_train, y_train, x_validation, y_validation, x_test, y_test, or a folder of class folders.",
        ),
    ],
    "data_dir": Annotated[
        Path | None, typer.Option("--data-dir", help="The same as a path after --data; digits needs none.")
    ],
    "input_scale": Annotated[
        float | None,
        typer.Option(
            "--input-scale", help="What inputs of --network are multiplied by, such as 0.00392157; by default 1."
        ),
    ],
    "loss": Annotated[
        str | None,
        typer.Option("--loss", help=f"Of --network: {', '.join(LOSSES)}. By default it follows from the data."),
    ],
    "metric": Annotated[
        str | None,
        typer.Option("--metric", help=f"Of --network: {', '.join(METRICS)}. By default it follows from --loss."),
    ],
}
OWN = {"network": WHICH["network"], **DATA}
TRAINING = {
    "float_epochs": Annotated[
        int | None,
        typer.Option(
            "--float-epochs", min=0, help="Epochs of the float network; the recipe's by default, 0 of --network."
        ),
    ],
    "batch_size": Annotated[int | None, typer.Option("--batch-size", min=1, help="Of the training of --network.")],
    "learning_rate": Annotated[
        float | None,
        typer.Option("--learning-rate", help="Of the first epoch of --network; a fifth less in every later one."),
    ],
}
RUN = {
    "weights": Annotated[
        Path | None,
        typer.Option(
            "--weights",
            help="Float weights (.weights.h5, .keras, Keras 2 .h5), or a fine-tuned run folder or file. "
            "Without it, the float network of a benchmark is trained first.",
        ),
    ],
    "config": Annotated[str, typer.Option("--config", help=f"Bit widths: {CONFIG_HELP}.")],
    "alpha": Annotated[
        str,
        typer.Option(
            "--alpha",
            help="Scales: auto (real numbers), auto_po2 (powers of two) or learned_po2 (powers of two that are "
            "trained).",
        ),
    ],
    "epochs": Annotated[int | None, typer.Option("--epochs", min=0, help="Epochs; the recipe's by default.")],
    "reconstruct": Annotated[
        int,
        typer.Option(
            "--reconstruct",
            min=0,
            help="First learn how to round the weights, without labels: steps for each layer, such as 500; 0: not.",
        ),
    ],
    "preset": Annotated[
        str,
        typer.Option("--preset", help="Recipe: published; small, which is sized for 2 cores; or strong, for few bits."),
    ],
    "calibration": Annotated[
        str,
        typer.Option(
            "--calibration",
            help="How activation ranges follow from data: mse (least squared error), max, percentile, percentile:99.9 "
            "or entropy; percentile,activation_3=max gives single ones a rule of their own.",
        ),
    ],
    "target": Annotated[
        str,
        typer.Option("--target", help=f"What shall compute the network: {', '.join(TARGETS)}; see docs/targets.md."),
    ],
    "seed": Annotated[int, typer.Option("--seed", help="Seed of data splits, training and search.")],
}
"""Options of a run, by name of a field of its request, whose default they have."""


def run_options(*names: str) -> dict[str, Any]:
    """Return some of :data:`RUN`."""
    return {name: RUN[name] for name in names}


def with_task(*groups: Mapping[str, Any], request: type[RunRequest] | None = None) -> Callable[[Command], Command]:
    """Return what gives a command the options of a task, in place of its parameter ``task``, which gets what they say.

    Args:
        groups: of :data:`WHICH`, :data:`DATA`, :data:`TRAINING` and :data:`RUN`.
        request: has the defaults of the last.
    """
    options = {name: option for group in groups for name, option in group.items()}
    known = {} if request is None else {field.name: field.default for field in dataclasses.fields(request)}
    defaults = {name: known.get(name) for name in options}

    def change(command: Command) -> Command:
        def run(**given: Any) -> Any:
            task = {name: given.pop(name) for name in options}
            return command(**given, task={name: value for name, value in task.items() if value is not None})

        return _like(command, run, defaults, options, without="task")

    return change


def _read_option_file(context: typer.Context, path: Path | None) -> None:
    """Make what a file says the defaults of a command."""
    if path is None:
        return
    names = {max(p.opts, key=len).lstrip("-").replace("-", "_"): p.name for p in context.command.params}
    context.default_map = read_options(path, {option: name for option, name in names.items() if name})


TALK_DEFAULTS = {"options": None, "as_json": False, "quiet": False, "verbose": False}
TALK = {
    "options": Annotated[
        Path | None,
        typer.Option(
            "--options",
            help="JSON or YAML file with options of this command by name; those of the command line win.",
            is_eager=True,
            callback=_read_option_file,
        ),
    ],
    "as_json": Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, all else on standard error.")
    ],
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")],
    "verbose": Annotated[bool, typer.Option("--verbose", "-v", help="Show what every epoch measured.")],
}


def with_talk(command: Command) -> Command:
    """Return a command with options of how much it says; ``--json`` prints the facts that it returns."""

    def run(options: None, as_json: bool, quiet: bool, verbose: bool, **given: Any) -> None:
        talk = Talk(as_json, quiet, verbose)
        with talk.on():
            try:
                talk.print(command(**given))
            except Verdict as verdict:
                talk.print(verdict.facts)
                raise

    return _like(command, run, TALK_DEFAULTS, TALK)


def _like(command: Command, run: Command, defaults: Task, options: Mapping[str, Any], without: str = "") -> Command:
    """Return ``run`` with the name, the help and the options of a command, and more options."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != without]
    new = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=option)
        for name, option in options.items()
    ]
    run = functools.wraps(command)(run)
    run.__signature__ = signature.replace(parameters=[*own, *new])  # type: ignore[attr-defined]
    return run


CalibrationDataOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration-data",
        help="Where activation ranges come from: other data of the task, or a .npz with x_train (or x_test). By "
        "default the training inputs, and the test inputs where there are no others.",
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output-dir", help="Run folder; by default a new one under runs/.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the run in --output-dir.")]
