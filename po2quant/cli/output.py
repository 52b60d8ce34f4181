"""What a command says: results, notes, tables and JSON, on the terminal and in the log of a run."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import typer

from po2quant.log import CONSOLE, LOG, RESULT, SHOWN, console

Facts = dict[str, Any]
WIDTH = 80
"""Columns of what is shown where no terminal says how many it has."""


class Verdict(typer.Exit):
    """The end of a command whose exit code says what was found.

    Args:
        code: exit code.
        facts: what ``--json`` prints.
    """

    def __init__(self, code: int, facts: Facts) -> None:
        super().__init__(code)
        self.facts = facts


@dataclasses.dataclass(frozen=True)
class Talk:
    """How much a command says, and for whom.

    Args:
        as_json: standard output is one JSON object, and everything else goes to standard error.
        quiet: neither progress nor notes.
        verbose: also what every epoch measured.
    """

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise ValueError("--quiet and --verbose exclude each other. Received: both")

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Say so much while the block runs."""
        level = logging.DEBUG if self.verbose else logging.INFO
        with console(level=level, results_aside=self.as_json, is_quiet=self.quiet):
            yield

    def print(self, facts: Facts | None) -> None:
        """Print what a program reads, where it was asked for."""
        if self.as_json:
            typer.echo(json.dumps(facts or {}))


def say(text: str) -> None:
    """Say a line of what was asked for."""
    LOG.info(text, extra=RESULT)


def print_table(table: Any) -> None:
    """Show a table as wide as the terminal, or of :data:`WIDTH` columns."""
    from rich.console import Console

    if CONSOLE.shows(is_result=True):
        shown = Console(file=CONSOLE.stream(is_result=True))
        Console(file=shown.file, width=shown.width if shown.is_terminal else WIDTH).print(table)
    text = io.StringIO()
    Console(file=text, width=WIDTH).print(table)
    LOG.info("table:\n%s", text.getvalue().rstrip("\n"), extra=SHOWN)
