"""Small pieces of HTML. Every text that comes in is escaped here, nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Escape a value; `Markup` passes as it is."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def tag(name: str, *content: object, **attributes: str) -> Markup:
    """One element; a trailing underscore in an attribute's name is dropped (`class_`)."""
    given = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{given}>{''.join(map(text, content))}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """Elements one after another."""
    return Markup("\n".join(map(text, parts)))


def table(head: Sequence[object], rows: Sequence[Sequence[object]], caption: str = "") -> Markup:
    """A table whose first column names the row; wide ones scroll sideways."""
    top = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))
        for row in rows
    ]
    below = tag("caption", caption) if caption else Markup("")
    return tag("div", tag("table", below, top, tag("tbody", *body)), class_="scroll")


def section(title: str, *content: object) -> Markup:
    """A heading with what belongs to it."""
    return tag("section", tag("h2", title), join(content))


def number(value: float | int | None, digits: int = 4) -> str:
    """A number for a table: thousands grouped, fractions to `digits`, an en dash for None."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{digits}f}"


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
