"""Tables that fit into 80 columns."""

from __future__ import annotations

from rich import box
from rich.table import Table


def narrow_table(title: str | None = None) -> Table:
    """Return an empty table without lines between its columns."""
    return Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
