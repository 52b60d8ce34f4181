"""``po2quant report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from po2quant.cli.output import Facts, say
from po2quant.runs.folder import check_writable
from po2quant.runs.names import REPORT_FILE


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several are compared.", metavar="RUN...")],
    output: Annotated[
        Path | None,
        typer.Option("--output", help="The file; by default report.html in the run folder, or here for several runs."),
    ] = None,
) -> Facts:
    """Write what one run or several came to into one HTML file that needs no other."""
    from po2quant.report.document import write_report

    path = output or (runs[0] / REPORT_FILE if len(runs) == 1 else Path(REPORT_FILE))
    check_writable(path.parent)
    path = write_report(runs, path)
    say(f"report: {path}")
    return {"report": str(path), "runs": [str(run) for run in runs]}
