"""The command line: ``po2quant summary | evaluate | search | finetune | matrix | diagnose | export | verify``."""

from __future__ import annotations

import sys

import typer

from po2quant.cli import deploy, diagnose, matrix, networks, search

app = typer.Typer(
    help="Mixed-precision, power-of-two quantization of Keras networks for edge devices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS = (
    networks.summary,
    networks.evaluate,
    search.search,
    networks.finetune,
    matrix.matrix,
    diagnose.diagnose,
    deploy.export,
    deploy.verify,
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line; a wrong input ends in one sentence and exit code 2."""
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
