"""Tables and paragraphs that fit the terminal: columns are dropped before a cell is wrapped."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_BETWEEN = 3
"""Spaces between columns."""
_MOST_WIDTH = 100
"""Of a paragraph, also where the terminal is wider."""


class Column(NamedTuple):
    """A column of a fitted table."""

    title: str
    cells: Sequence[str]
    drop: int = 0
    """Columns with a higher number are dropped earlier; 0 is kept."""
    dim: bool = False


class FittedTable:
    """A table with the columns that fit the width; the first one names the rows and may fold."""

    def __init__(self, columns: Sequence[Column], bold: Sequence[int] = ()) -> None:
        self.columns = [each for each in columns if any(each.cells)]
        self.bold = set(bold)
        """Numbers of the rows to emphasise."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = fit(self.columns, options.max_width)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
        for number, column in enumerate(columns):
            table.add_column(
                column.title,
                justify="left" if number == 0 else "right",
                overflow="fold",
                no_wrap=number > 0,
                style="dim" if column.dim else None,
            )
        for number, row in enumerate(zip(*(column.cells for column in columns), strict=True)):
            cells = [Text(cell) for cell in row]
            table.add_row(*cells, style="bold" if number in self.bold else None)
        yield table


def fit(columns: Sequence[Column], width: int) -> list[Column]:
    """Returns the columns that fit; drops those with the highest `drop` first."""
    kept = list(columns)
    while _needed(kept) > width:
        last = max(kept, key=lambda column: column.drop)
        if last.drop == 0:
            break
        kept.remove(last)
    return kept


def _needed(columns: Sequence[Column]) -> int:
    widths = [max(map(len, (column.title, *column.cells))) for column in columns]
    return sum(widths) + _BETWEEN * (len(widths) - 1)


class Paragraph:
    """A paragraph below a blank line; its further lines hang by two spaces."""

    def __init__(self, text: str, style: str = "") -> None:
        self.text, self.style = text, style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text()
        whole = re.sub(r"\bp (<|=) ", "p\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", self.text)
        # Unlike rich, textwrap keeps what no-break spaces join.
        width = min(options.max_width, _MOST_WIDTH)
        for line in textwrap.wrap(whole, width, subsequent_indent="  "):
            yield Text(line, self.style)
