"""Significance: every difference on the first metric with its interval, by pair and group."""

from __future__ import annotations

from dataclasses import replace

from seqloom.core.number_format import (
    format_interval,
    format_p,
    format_p_cell,
    format_signed,
)
from seqloom.evaluation.compare import Comparison, Pair
from seqloom.evaluation.differences import Difference
from seqloom.evaluation.metrics import metric_label
from seqloom.evaluation.sentences import is_shown
from seqloom.evaluation.wording import group_label
from seqloom.reports.charts import IntervalChart, IntervalRow
from seqloom.reports.csv_link import CsvLink
from seqloom.reports.data import ReportData
from seqloom.reports.marks import Marks
from seqloom.reports.scales import Scale, scale_of


def forests(data: ReportData, marks: Marks) -> list[IntervalChart]:
    """Returns a forest plot for each pair, all on one scale around zero; the run under discussion first."""
    comparison = data.comparison
    metric = comparison.metric
    ordered = sorted(comparison.pairs, key=lambda pair: pair.run != marks.subject)
    shown = [(pair, _tested(pair, metric)) for pair in ordered]
    values = [v for _, each in shown for d in each for v in (d.low, d.high)]
    scale = scale_of(values, most_ticks=6)
    charts = []
    for pair, differences in shown:
        rows = [_row(d, pair, marks, scale, comparison) for d in differences]
        charts.append(IntervalChart(pair.run, scale, rows, note=pair.reference))
    return charts


def tests_csv(comparison: Comparison) -> CsvLink:
    """Returns all tests."""
    rows = comparison.as_rows()
    return CsvLink("tests", list(rows[0]), [list(row.values()) for row in rows])


def _tested(pair: Pair, metric: str) -> list[Difference]:
    return [d for d in pair.differences if d.metric == metric and d.difference is not None]


def _row(
    d: Difference, pair: Pair, marks: Marks, scale: Scale, comparison: Comparison
) -> IntervalRow:
    label = group_label(d.group)
    interval = format_interval(d.low, d.high, 4, signed=True)
    row = IntervalRow(
        name=label[0].upper() + label[1:],
        slot=marks[pair.run],
        value=format_signed(d.difference, 3),
        x=scale.at(d.difference or 0.0),
        low=None if d.low is None else scale.at(d.low),
        high=None if d.high is None else scale.at(d.high),
        tip=f"{pair.run} minus {pair.reference}, {label}: {format_signed(d.difference)}, "
        f"95 % interval {interval}, {format_p(d.p_holm or 0.0)}",
        filled=is_shown(d, comparison.level),
        note=f"{d.users:,}",
    )
    return replace(row, p=format_p_cell(d.p_holm))


def significance_heading(comparison: Comparison) -> str:
    """States how many tests hold after the correction."""
    held = sum(
        is_shown(d, comparison.level)
        for p in comparison.pairs
        for d in p.differences
        if d.p is not None
    )
    what = "differences holds" if held == 1 else "differences hold"
    number = "None" if held == 0 else f"{held:,}"
    return f"{number} of {comparison.comparisons:,} {what} after correction"


def significance_intro(comparison: Comparison) -> str:
    """Says what the forest plots show."""
    label = metric_label(comparison.metric)
    references = {pair.reference for pair in comparison.pairs}
    if len(references) == 1:
        name = next(iter(references))
        return f"Difference in {label} from {name}, user by user. Left of zero, {name} is better."
    return f"Difference in {label}, user by user. Left of zero, the second run of a pair is better."
