"""Numbers as people read them: the form of terminals, reports and sentences."""

from __future__ import annotations

UNKNOWN = "–"
MINUS = "\N{MINUS SIGN}"
NO_BREAK = "\N{NO-BREAK SPACE}"
THIN = "\N{NARROW NO-BREAK SPACE}"
"""The space before a unit."""


def format_number(value: float | int | None, digits: int = 4) -> str:
    """Formats a number with grouped thousands and fractions of `digits`; an en dash for None."""
    if value is None:
        return UNKNOWN
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"
    return text.replace("-", MINUS)


def format_signed(value: float | None, digits: int = 4) -> str:
    """Formats a difference with its sign; an en dash for None."""
    return UNKNOWN if value is None else f"{value:+.{digits}f}".replace("-", MINUS)


def format_percent(share: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """Formats a share (0.1 is 10 %); an en dash for None."""
    if share is None:
        return UNKNOWN
    number = format_signed(100 * share, digits) if signed else format_number(100.0 * share, digits)
    return f"{number}{THIN}%"


def format_interval(
    low: float | None, high: float | None, digits: int = 3, *, signed: bool = False
) -> str:
    """Formats an interval as `0.087 to 0.117`; an en dash where there is none."""
    if low is None or high is None:
        return UNKNOWN
    write = format_signed if signed else format_number
    return f"{write(low, digits)} to {write(high, digits)}"


def format_p(p: float) -> str:
    """Formats a p-value as `p < .001`, `p = .045` or `p = .63`; above .995 as `p = 1`."""
    if p < 0.001:
        return "p < .001"
    if p > 0.995:
        return "p = 1"
    return f"p = {p:.{2 if p >= 0.1 else 3}f}".replace("0.", ".", 1)


def format_p_cell(p: float | None) -> str:
    """Formats a p-value for a column of them: `< .001`, `.63`; an en dash for None."""
    return UNKNOWN if p is None else format_p(p).removeprefix("p ").removeprefix("= ")


def format_duration(seconds: float | None) -> str:
    """Formats seconds in the unit a person would say; an en dash for None."""
    if seconds is None:
        return UNKNOWN
    if seconds < 9.95:
        return f"{seconds:.1f}{THIN}s"
    if seconds < 119.5:
        return f"{seconds:.0f}{THIN}s"
    if seconds < 7170:
        return f"{seconds / 60:.0f}{THIN}min"
    return f"{seconds / 3600:.1f}{THIN}h"


def format_milliseconds(milliseconds: float | None) -> str:
    """Formats the time of one request; an en dash for None."""
    if milliseconds is None:
        return UNKNOWN
    return f"{milliseconds:,.{1 if milliseconds < 99.95 else 0}f}{THIN}ms"


def format_count(value: int | None) -> str:
    """Formats a large count as `190 k` or `7.1 M`; an en dash for None."""
    if value is None:
        return UNKNOWN
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            scaled = value / size
            return f"{scaled:.{1 if scaled < 9.95 else 0}f}{THIN}{unit}"
    return str(value)


def join_names(parts: list[str], last: str = "and") -> str:
    """Joins names as `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"
