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
from po2quant.cli import check, deploy, diagnose, matrix, networks, prune, reconstruct, report, search, zoo
from po2quant.cli.errors import LONGEST_SENTENCE, TRACEBACK_VARIABLE, drop_unwritten, sentence
from po2quant.cli.options import with_talk
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
COMMANDS = {
    check.check: ("mobilenet.h5", "mobilenet.h5 --data photos.zip --json"),
    networks.summary: ("--config flat8", "--benchmark keyword_spotting --config mpq"),
    networks.evaluate: ("--weights runs/mine --config runs/mine/best_config.json", "--network my.keras --data my.npz"),
    search.search: ("--max-trials 24 --epochs 3 --retrain-epochs 15", "--network my.keras --data my.npz --max-kib 64"),
    prune.prune: ("--network my.keras --data my.npz --keep 0.6 --output narrow.keras",),
    reconstruct.reconstruct: ("--network my.keras --data my.npz --config w4a8",),
    networks.finetune: ("--config mpq --output-dir runs/mine", "--options run.yaml --seed 1"),
    matrix.matrix: ("--configs mpq,flat8,flat4 --alphas auto,auto_po2 --seeds 0,1,2",),
    diagnose.diagnose: ("runs/mine", "runs/mine --mode-sweep", "weights.h5"),
    report.report: ("runs/mine", "runs/one runs/other --output compared.html"),
    deploy.export: (
        "runs/mine --format c --output-dir c",
        "--network my.keras --data my.npz --config w8a8 --format onnx",
    ),
    zoo.zoo: ("", "keyword_spotting-ds_cnn-w4a8", "keyword_spotting-ds_cnn-w4a8 --format c --output-dir c"),
    deploy.verify: ("runs/mine --score", "runs/mine --core m4 --samples 10"),
}
"""Each command, and examples of its options for its help."""
for command, examples in COMMANDS.items():
    lines = "\n".join(f"  po2quant {command.__name__} {words}" for words in examples)
    app.command(epilog=f"\b\nExamples:\n{lines}")(with_talk(command))


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
