"""The command line: ``po2quant check``, ``summary``, ``search``, ``export`` and others, see :data:`COMMANDS`."""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from typing import Annotated, Any

import typer

from po2quant import __version__
from po2quant.cli import check, deploy, diagnose, matrix, networks, reconstruct, report, search
from po2quant.cli.errors import LONGEST_SENTENCE, TRACEBACK_VARIABLE, drop_unwritten, sentence
from po2quant.cli.session import INTERRUPTED
from po2quant.files import one_line

UNREAD, WRONG = 1, 2
"""Exit codes where nobody reads the output, and where something is wrong."""

COMPLETE_VARIABLE = "_PO2QUANT_COMPLETE"
"""Where a shell says what it wants completed, see ``po2quant --show-completion``."""


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"po2quant {__version__}")
        raise typer.Exit


app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS = (
    check.check,
    networks.summary,
    networks.evaluate,
    search.search,
    reconstruct.reconstruct,
    networks.finetune,
    matrix.matrix,
    diagnose.diagnose,
    report.report,
    deploy.export,
    deploy.verify,
)
for command in COMMANDS:
    app.command()(command)


@app.callback()
def _general(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and stop.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Mixed-precision, power-of-two quantization of Keras networks for edge devices."""


def main() -> None:
    """Run the command line; whatever goes wrong ends in one sentence and exit code 2.

    The environment variable PO2QUANT_TRACEBACK=1 shows the traceback as well.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning
    try:
        code = _run(sys.argv[1:] or ["--help"])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        drop_unwritten()
        code = UNREAD
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        sys.stderr.write(f"error: {sentence(error, sys.argv[1:])}\n")
        drop_unwritten()
        code = WRONG
    sys.exit(code)


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
    """Show a warning of this package as a line; those of others are about code that users do not see."""
    if category.__module__.startswith(f"{__package__.partition('.')[0]}."):
        sys.stderr.write(f"warning: {one_line(str(message), LONGEST_SENTENCE)}\n")


def _run(words: list[str]) -> int:
    """Run a command line and return its exit code; unlike Click's own way, every exception comes out as it is."""
    command = typer.main.get_command(app)
    if COMPLETE_VARIABLE in os.environ:
        command.main(words, "po2quant", COMPLETE_VARIABLE)
    try:
        with command.make_context("po2quant", words) as context:
            command.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    return 0
