"""Tables of results for the terminal, drawn from the document that `--json` writes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from seqloom.core.tabular import text_of

WIDTH_WITHOUT_TERMINAL = 240
"""Width in columns if standard output is a file or a pipe, so that nothing is truncated."""


_METRIC = re.compile(r"(hr|ndcg|mrr|coverage)(@\d+)?")
_UNITS = {"_mb": ", MiB", "_per_s": " per second", "_s": ", s"}
"""Units by the ending of a field's name."""


def stdout_console() -> Console:
    """Opens a console on standard output, wide if it is not a terminal."""
    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(width=width, highlight=False)


def fields_table(values: Mapping[str, Any]) -> Table:
    """Draws one line per entry, named by `label`; flattens nested mappings."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _flat(values):
        table.add_row(label(name), Text(text_of(value)))
    return table


def rows_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Draws one line per row; the columns are the rows' keys by `label`, in order of appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
        table.add_column(label(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(text_of(row.get(name))) for name in names))
    return table


def label(name: str) -> str:
    """Returns a field's name in words: `valid.ndcg@10` becomes `validation NDCG@10`."""
    parts = name.split(".")
    if parts[0] == "valid" and len(parts) > 1:
        parts[0] = "validation"
    return " ".join(_label(part) for part in parts)


def _label(part: str) -> str:
    if _METRIC.fullmatch(part):
        return part.upper()
    for ending, unit in _UNITS.items():
        if part.endswith(ending):
            part, ending = part.removesuffix(ending), unit
            return f"{part.replace('_', ' ')}{ending}"
    return part.replace("_", " ")


def document_tables(document: Mapping[str, Any]) -> Iterable[RenderableType]:
    """Draws a document: its plain entries, then one table for each list of rows."""
    lists = {name: value for name, value in document.items() if _is_rows(value)}
    yield fields_table({name: value for name, value in document.items() if name not in lists})
    for name, rows in lists.items():
        yield name
        yield rows_table(rows)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)
