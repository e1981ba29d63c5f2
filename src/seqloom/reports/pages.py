"""Renders report pages from the Jinja2 templates in `templates/`.

Templates get plain data: the report's model and tables computed from it. Markup, captions and style are
only in the templates. Autoescaping is on; only the SVG of figures is not escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from seqloom.core.files import atomic_file
from seqloom.evaluation.metrics import MISSED, metric_label
from seqloom.evaluation.sentences import format_p
from seqloom.reports.figure_style import Figure

_UNKNOWN = "–"


def write_page(path: Path, template: str, drawn: Sequence[Figure], **context: Any) -> Path:
    """Writes the page at `path` and its figures in `<stem>_figures/`; returns `path`.

    The template receives `drawn`, `folder` (name of the figures' folder) and `context`.
    """
    folder = path.with_name(f"{path.stem}_figures")
    for figure in drawn:
        figure.save(folder)
    page = _environment().get_template(template).render(drawn=drawn, folder=folder.name, **context)
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
        "duration": format_duration,
        "fact": _fact,
        "group_label": _group_label,
        "interval": _interval,
        "metric": metric_label,
        "number": format_number,
        "p": _p,
        "percent": _percent,
        "place": _place,
        "plus_minus": _plus_minus,
        "signed": _signed,
    }
    return environment


def format_number(value: float | int | None, digits: int = 4) -> str:
    """Formats a number with grouped thousands and fractions of `digits`; an en dash for None."""
    if value is None:
        return _UNKNOWN
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{digits}f}"


def format_duration(seconds: float | None) -> str:
    """Formats seconds as seconds, minutes or hours; an en dash for None."""
    if seconds is None:
        return _UNKNOWN
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class _HasInterval(Protocol):
    """A difference with its confidence interval."""

    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def _interval(difference: _HasInterval) -> str:
    if difference.low is None:
        return _UNKNOWN
    return f"[{_signed(difference.low, 4)}, {_signed(difference.high, 4)}]"


def _fact(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.6g}" if isinstance(value, float) else format_number(value)


def _group_label(group: str) -> str:
    """Formats a group's name: `tail_item` becomes `tail items`."""
    return f"{group.replace('_', ' ')}s"


def _p(p: float | None) -> str:
    return _UNKNOWN if p is None else format_p(p).removeprefix("p ").removeprefix("= ")


def _signed(value: float | None, digits: int) -> str:
    return _UNKNOWN if value is None else f"{value:+.{digits}f}".replace("-", "−")


def _percent(share: float | None) -> str:
    return _UNKNOWN if share is None else f"{_signed(100 * share, 1)} %"


def _plus_minus(mean: float, deviation: float | None) -> str:
    mean_text = format_number(mean)
    return mean_text if deviation is None else f"{mean_text} ± {format_number(deviation)}"


def _place(rank: int) -> str:
    if rank == MISSED:
        return "the target is masked: it is in the history"
    return f"target at rank {rank:,}"
