"""Results as people look at them: in a terminal, in a notebook, as a data frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from seqloom.core.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

_MOST_FACTS = 8
"""Facts of a `repr`."""
_MOST_ROWS = 30
"""Rows that a notebook shows; a frame has all."""


class Tabular:
    """Base of results that are a headline, a few facts and rows."""

    def headline(self) -> str:
        """Returns what the object is, on one line."""
        return type(self).__name__

    def facts(self) -> dict[str, Any]:
        """Returns the few values that describe the object as a whole, by their labels."""
        return {}

    def as_rows(self) -> list[dict[str, Any]]:
        """Returns the content as rows with equal keys; an empty list where it has none."""
        return []

    def to_polars(self) -> pl.DataFrame:
        """Returns the rows as a polars frame."""
        import polars as pl

        return pl.DataFrame(self.as_rows(), infer_schema_length=None)

    def to_pandas(self) -> pd.DataFrame:
        """Returns the rows as a pandas frame.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ConfigError("to_pandas needs pandas: pip install pandas") from None
        return pd.DataFrame(self.as_rows())

    def __repr__(self) -> str:
        shown = [f"{name} {text_of(value)}" for name, value in self.facts().items()]
        if len(shown) > _MOST_FACTS:
            shown = [*shown[:_MOST_FACTS], "..."]
        return f"<{self.headline()}{': ' if shown else ''}{', '.join(shown)}>"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        parts = [facts_html(self.headline(), self.facts())]
        rows = self.as_rows()
        if rows:
            parts.append(_rows_table(rows[:_MOST_ROWS]))
        if len(rows) > _MOST_ROWS:
            parts.append(f"<p>{len(rows) - _MOST_ROWS:,} more rows; see to_polars()</p>")
        return "<div>" + "".join(parts) + "</div>"


def facts_html(headline: str, facts: Mapping[str, Any]) -> str:
    """Returns a headline and a table of facts as HTML."""
    return f"<b>{escape(headline)}</b>{_facts_table(facts) if facts else ''}"


def text_of(value: Any) -> str:
    """Formats one value: a dash for None, thousands separators, four decimals."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {text_of(entry)}" for name, entry in value.items())
    if isinstance(value, list):
        shown = ", ".join(text_of(entry) for entry in value[:5])
        return f"{shown}, ... ({len(value)} in total)" if len(value) > 5 else shown
    return str(value)


def _facts_table(facts: Mapping[str, Any]) -> str:
    lines = (
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(text_of(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{''.join(lines)}</table>"


def _rows_table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(_cell(row.get(name)) for name in names) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    side = "right" if isinstance(value, int | float) else "left"
    return f"<td style='text-align:{side}'>{escape(text_of(value))}</td>"
