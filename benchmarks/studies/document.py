"""Results in documents: tables that are written between two marks, so that no number is copied by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from po2quant.files import open_replacement

END = "<!-- end of results -->"


def begin_mark(command: str) -> str:
    """Return the line that results of a command stand behind."""
    return f"<!-- results: written by {command} -->"


def write_results(path: Path, command: str, sections: Sequence[str]) -> None:
    """Write sections between the two marks of a document, in the place of those that stand there.

    Args:
        path: the document.
        command: what writes the sections; part of the first mark.
        sections: Markdown, one blank line apart.

    Raises:
        ValueError: for a document without the marks.
    """
    text, begin = path.read_text(encoding="utf-8"), begin_mark(command)
    head, begins, rest = text.partition(begin)
    _, ends, tail = rest.partition(END)
    if not (begins and ends):
        raise ValueError(f"the document must contain {begin!r} and, after it, {END!r}. Received: {path}")
    with open_replacement(path) as file:
        file.write(head + "\n\n".join([begin, *sections, END]) + tail)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def thousands(number: str | int) -> str:
    """Return an integer with its thousands apart, ``1 234 567``."""
    return f"{int(number):,}".replace(",", " ")
