"""Pieces of an HTML page; what is not HTML already is escaped, so that no name of a layer or file becomes markup."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from importlib import resources

STYLE = "report.css"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a browser may load for a page: pictures that stand in the file itself, and nothing else."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(content: object) -> Html:
    """Return content as HTML: as it is where it is HTML already, else as text.

    Example:
        >>> escaped("<b>"), escaped(Html("<b>"))
        ('&lt;b&gt;', '<b>')
    """
    return content if isinstance(content, Html) else Html(html.escape(str(content)))


def joined(parts: Iterable[object], separator: str = "") -> Html:
    """Return parts one after the other."""
    return Html(html.escape(separator).join(map(escaped, parts)))


def element(name: str, *content: object, **attributes: object) -> Html:
    """Return an element; an attribute ``class_`` is written as ``class``.

    Example:
        >>> element("p", "1 < 2", class_="note")
        '<p class="note">1 &lt; 2</p>'
    """
    words = "".join(f' {key.rstrip("_")}="{html.escape(str(value))}"' for key, value in attributes.items())
    return Html(f"<{name}{words}>{joined(content)}</{name}>")


def section(title: str, anchor: str, *content: object) -> Html:
    """Return a section with a heading that links can name, nothing where it has no content."""
    if not any(content):
        return Html()
    return element("section", element("h3", title), *content, id=anchor)


def table(columns: Sequence[object], rows: Iterable[Sequence[object]], text_columns: int = 1) -> Html:
    """Return a table that scrolls sideways where the page is narrow.

    Args:
        columns: headings.
        rows: cells.
        text_columns: how many columns, from the left, hold words; the others hold numbers and end on the right.
    """

    def line(name: str, cells: Sequence[object]) -> Html:
        kinds = ("words" if index < text_columns else "number" for index in range(len(cells)))
        return element("tr", *(element(name, cell, class_=kind) for cell, kind in zip(cells, kinds, strict=True)))

    head, body = element("thead", line("th", columns)), element("tbody", *(line("td", row) for row in rows))
    return element("div", element("table", head, body), class_="scroll", tabindex=0)


def facts(pairs: Iterable[tuple[object, object]]) -> Html:
    """Return names and values, one pair a line."""
    rows = [element("tr", element("th", name, scope="row"), element("td", value)) for name, value in pairs]
    return element("div", element("table", element("tbody", *rows), class_="facts"), class_="scroll", tabindex=0)


def items(lines: Iterable[object]) -> Html:
    """Return a list."""
    return element("ul", *(element("li", line) for line in lines))


def picture(address: str, description: str) -> Html:
    """Return a picture with what it shows in words; the address holds the picture itself."""
    image = Html(f'<img src="{html.escape(address)}" alt="{html.escape(description)}">')
    return element("figure", image)


def page(title: str, *content: object) -> Html:
    """Return a whole page, which needs no other file."""
    style = resources.files(__package__).joinpath(STYLE).read_text(encoding="utf-8")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY)}">'
        f"<title>{html.escape(title)}</title><style>{style}</style>"
    )
    return Html(f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{joined(content)}</body></html>\n')
