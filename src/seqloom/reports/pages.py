"""Renders report pages from the Jinja2 templates in `templates/`.

Templates get plain data: the report's model and what `sections` computed from it. Markup, captions and style
are only in the templates. Autoescaping is on; only the SVG of figures is not escaped.
"""

from __future__ import annotations

import datetime
import re
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from seqloom.core.files import atomic_file
from seqloom.core.number_format import (
    THIN,
    UNKNOWN,
    format_count,
    format_duration,
    format_interval,
    format_milliseconds,
    format_number,
    format_p_cell,
    format_percent,
    format_signed,
)
from seqloom.evaluation.metrics import MISSED, metric_label
from seqloom.evaluation.wording import group_label


def write_page(path: Path, template: str, **context: Any) -> Path:
    """Writes the page at `path`; returns `path`. The template receives `context`."""
    page = _environment().get_template(template).render(**context)
    with atomic_file(path) as work:
        work.write_text(page, encoding="utf-8")
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("seqloom.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters |= {
        "capitalize_first": capitalize_first,
        "count": format_count,
        "duration": format_duration,
        "fact": _fact,
        "group_label": group_label,
        "interval": _interval,
        "mebibytes": _mebibytes,
        "metric": metric_label,
        "milliseconds": format_milliseconds,
        "number": format_number,
        "p": format_p_cell,
        "percent": _percent,
        "place": _place,
        "plus_minus": _plus_minus,
        "share": format_percent,
        "signed": format_signed,
    }
    return environment


def capitalize_first(text: str) -> str:
    """Returns the text with a capital first letter; the others stay as they are."""
    return text[:1].upper() + text[1:]


class _HasInterval(Protocol):
    """A difference with its confidence interval."""

    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def _interval(difference: _HasInterval) -> str:
    return format_interval(difference.low, difference.high, 4, signed=True)


_TIME = re.compile(r"\b(\d{4}-\d\d-\d\d)T[\d:]+Z")


def _fact(value: float | str) -> str:
    """Formats a fact about a data set; times as dates."""
    if isinstance(value, str):
        return _TIME.sub(lambda found: _date(found[1]), value)
    return f"{value:,.6g}" if isinstance(value, float) else format_number(value)


def _date(day: str) -> str:
    """Formats `1998-03-19` as `19 Mar 1998`."""
    date = datetime.date.fromisoformat(day)
    return f"{date.day} {date:%b} {date.year}"


def _mebibytes(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}{THIN}MiB"


def _percent(share: float | None) -> str:
    return format_percent(share, signed=True)


def _plus_minus(mean: float, deviation: float | None) -> str:
    mean_text = format_number(mean)
    return mean_text if deviation is None else f"{mean_text} ± {format_number(deviation)}"


def _place(rank: int) -> str:
    if rank == MISSED:
        return "the next item is masked: it is in the history"
    return f"next item at rank {rank:,}"
