"""``po2quant diagnose``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from po2quant.cli.options import JsonOption
from po2quant.cli.session import import_tensorflow_quietly, print_table, say


def diagnose(
    path: Annotated[Path, typer.Argument(help="Run folder, or a .weights.h5, .keras or .h5 file.")],
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Where pictures go; by default plots/ of the run folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say in plain words what quantization did to each tensor of a run or a weight file."""
    import_tensorflow_quietly()
    from po2quant.diagnostics.diagnose import diagnose as diagnosis_of

    diagnosis = diagnosis_of(path, output_dir)
    print_table(diagnosis.table())
    for line in diagnosis.lines():
        say(line)
    for picture in diagnosis.pictures:
        say(f"picture: {picture}")
    if as_json:
        say(json.dumps(diagnosis.to_dict()))
