"""``po2quant check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from po2quant.bit_config import FLOAT
from po2quant.cli.options import OWN, Task, run_options, with_task
from po2quant.cli.output import Facts, Verdict, print_table, say
from po2quant.cli.session import begin, import_tensorflow_quietly, load_dataset
from po2quant.placement import Placement
from po2quant.runs.request import NetworkRequest
from po2quant.targets import target_of

if TYPE_CHECKING:
    from po2quant.deploy.check import Check

OBSTACLES = 1
"""Exit code of a network that cannot be quantized."""


@with_task(run_options("target"), OWN, request=NetworkRequest)
def check(
    task: Task,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Keras model, the same as --network: .keras, .h5 of Keras 3 or 2, or JSON with --weights.",
            metavar="FILE",
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Weights, where FILE has none.")] = None,
) -> Facts:
    """Say whether a network can be quantized, what each layer becomes, and which formats can take it.

    With --data also: how many samples they have, and which loss and metric suit them.

    Exit code 0: it can; 1: there are obstacles, all of which are named; 2: FILE or the data cannot be loaded.
    """
    if (file is None) == ("network" not in task):
        raise ValueError("check needs FILE or --network, a file of a Keras model. Received: both or neither")
    file = file or task["network"]
    for name, path in (("FILE", file), ("--weights", weights)):
        if path is not None and not path.exists():
            raise ValueError(f"{name} must be a file of a Keras model. There is none: {path}")
    target = target_of(task["target"])
    dataset = None
    if "data" in task or "data_dir" in task:
        asked = NetworkRequest(**task | {"network": file}, weights=weights, config=FLOAT)
        benchmark, request = begin(asked)
        dataset = load_dataset(benchmark, request)
    import_tensorflow_quietly()
    from po2quant.deploy import check as checking
    from po2quant.network.load import load_model

    found = checking.check(load_model(file, weights), Placement(target=target))
    _show(found)
    if dataset is not None:
        say(f"data: {dataset.describe()}")
    if not found.is_supported:
        raise Verdict(OBSTACLES, found.to_dict())
    return found.to_dict()


def _show(found: Check) -> None:
    from po2quant.report.tables import check_table

    print_table(check_table(found))
    for obstacle in found.obstacles:
        say(str(obstacle))
    for misfit in found.misfits:
        say(f"{found.target}: {misfit}")
    for format, refusals in found.formats.items():
        say(f"{format}: {'; '.join(refusals) or 'yes'}")
    obstacles = len(found.obstacles) + len(found.misfits)
    say(f"{found.model}: {f'obstacles: {obstacles}' if obstacles else 'supported'}")
