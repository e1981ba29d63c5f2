"""The ranking: each run's value with its interval, and its difference from the reference."""

from __future__ import annotations

from seqloom.core.number_format import NO_BREAK, format_p, format_percent, join_names
from seqloom.evaluation.compare import Comparison
from seqloom.evaluation.intervals import Score
from seqloom.evaluation.metrics import metric_label
from seqloom.evaluation.sentences import is_shown
from seqloom.reports.charts import IntervalChart, score_row
from seqloom.reports.csv_link import CsvLink
from seqloom.reports.data import ReportData
from seqloom.reports.marks import Marks, hit_metric
from seqloom.reports.scales import scale_of

_NUMBERS = {1: "first", 5: "five", 10: "ten", 20: "twenty", 50: "fifty"}


def rankings(data: ReportData, marks: Marks) -> list[IntervalChart]:
    """Returns one chart for each metric of the comparison, the best run first."""
    comparison = data.comparison
    metrics = dict.fromkeys(s.metric for s in comparison.scores)
    return [_ranking(comparison, metric, marks) for metric in metrics]


def _ranking(comparison: Comparison, metric: str, marks: Marks) -> IntervalChart:
    scores = [s for s in comparison.scores if (s.metric, s.group) == (metric, "all")]
    scores.sort(key=lambda score: -(score.value or 0.0))
    label = metric_label(metric)
    scale = scale_of(each for s in scores for each in (s.value, s.high))
    rows = [
        score_row(score, marks[score.run], scale, label, change=change, p=p)
        for score in scores
        for change, p in [_against(comparison, score)]
    ]
    table = [
        (
            *(score.run, metric, score.users, score.value, score.low, score.high),
            *_difference(comparison, score),
        )
        for score in scores
    ]
    columns = ("run", "metric", "users", "value", "low", "high", "difference", "relative", "p_holm")
    return IntervalChart(label, scale, rows, CsvLink(f"ranking-{metric}", columns, table))


def _against(comparison: Comparison, score: Score) -> tuple[str, str]:
    """Words the difference from the reference, and its certainty."""
    if score.run == comparison.reference:
        return "Reference", ""
    found = comparison.difference(score.run, score.metric)
    if found is None or found.p_holm is None:
        return "", "not tested"
    chance = "" if is_shown(found, comparison.level) else "may be chance, "
    p = format_p(found.p_holm).replace(" ", NO_BREAK)
    return format_percent(found.relative, signed=True), f"{chance}{p}"


def _difference(
    comparison: Comparison, score: Score
) -> tuple[float | None, float | None, float | None]:
    found = comparison.difference(score.run, score.metric)
    return (None, None, None) if found is None else (found.difference, found.relative, found.p_holm)


def in_plain_words(data: ReportData) -> str:
    """Says for how many users each list holds the item that they chose next."""
    metric = hit_metric(data.comparison.metric)
    cutoff = int(metric.partition("@")[2])
    hits = {s.name: s.metrics[metric] for s in data.systems if metric in s.metrics}
    if not hits:
        return ""
    most = sorted(hits, key=lambda name: -hits[name])[:4]
    of = 100 if max(hits.values()) >= 0.02 else 1000
    first = _NUMBERS.get(cutoff, str(cutoff))
    place = "as its first item" if cutoff == 1 else f"among its first {first}"
    said = [f"{name} for {round(of * hits[name]):,}" for name in most[1:]]
    start = (
        f"{most[0]} has the item that a user chose next {place} for "
        f"{round(of * hits[most[0]]):,} of {of:,} users"
    )
    return f"{start}{', ' if said else ''}{join_names(said) if said else ''}."
