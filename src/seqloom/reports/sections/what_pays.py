"""What pays: the chain from IDs alone to a language model, each step with its gain, time and price."""

from __future__ import annotations

from dataclasses import dataclass

from seqloom.core.number_format import format_duration, join_names
from seqloom.evaluation.metrics import metric_label
from seqloom.evaluation.wording import group_label, in_group
from seqloom.reports.charts import IntervalChart, score_row
from seqloom.reports.csv_link import CsvLink
from seqloom.reports.data import ReportData, SystemResult, TextKind
from seqloom.reports.marks import Marks
from seqloom.reports.scales import scale_of

KINDS: dict[TextKind, str] = {
    "ids": "IDs only",
    "words": "hashed or random words",
    "pretrained": "text of a pretrained encoder",
    "tuned": "text tuned by the log",
    "model": "language model",
}
"""Kinds of runs in the order of the chain."""
_GROUPS = ("all", "tail_item", "cold_item")


@dataclass(frozen=True)
class Step:
    """A run in the chain."""

    name: str
    slot: int
    kind: str
    seconds: str
    price: str
    """Empty where no price is given."""


@dataclass(frozen=True)
class Chain:
    """The section: the steps, one chart for each group of users, and what could not be shown."""

    steps: list[Step]
    charts: list[IntervalChart]
    left_out: list[str]
    csv: CsvLink
    has_prices: bool


def chain(data: ReportData, marks: Marks) -> Chain | None:
    """Returns the chain; None unless a run of IDs only and a run with words of some kind are compared."""
    placed = [s for s in data.systems if s.setup.text_kind is not None]
    placed.sort(key=lambda s: list(KINDS).index(s.setup.text_kind or "ids"))
    kinds = {s.setup.text_kind for s in placed}
    if "ids" not in kinds or len(kinds) < 2:
        return None
    comparison = data.comparison
    metric = comparison.metric
    groups = [g for g in _GROUPS if any(s.group == g and s.users for s in comparison.scores)]
    found = [
        score
        for group in groups
        for system in placed
        if (score := comparison.score(system.name, metric, group)) is not None
    ]
    scale = scale_of((v for s in found for v in (s.value, s.high)), most_ticks=3)
    charts = [
        IntervalChart(
            group_label(group).capitalize(),
            scale,
            [
                score_row(s, marks[s.run], scale, f"{metric_label(metric)} {in_group(group)}")
                for s in found
                if s.group == group
            ],
            note=f"{next(s.users for s in found if s.group == group):,} users",
        )
        for group in groups
    ]
    return Chain(
        steps=[_step(s, marks, data.price_per_hour) for s in placed],
        charts=charts,
        left_out=_left_out(data, "cold_item" in groups),
        csv=_csv(data, placed, groups),
        has_prices=data.price_per_hour is not None,
    )


def _step(system: SystemResult, marks: Marks, price_per_hour: float | None) -> Step:
    kind = system.setup.text_kind or "ids"
    return Step(
        name=system.name,
        slot=marks[system.name],
        kind=KINDS[kind],
        seconds=format_duration(system.total_train_seconds),
        price=_price(price_of(system, price_per_hour)),
    )


def price_of(system: SystemResult, price_per_hour: float | None) -> float | None:
    """Returns the price of a training, the embedding of texts included; None where it is not known."""
    if price_per_hour is None or system.total_train_seconds is None:
        return None
    return system.total_train_seconds / 3600.0 * price_per_hour


def _price(price: float | None) -> str:
    if price is None:
        return ""
    return f"{price:.2f}" if price >= 0.1 else f"{price:.4f}"


def _left_out(data: ReportData, has_new_items: bool) -> list[str]:
    """Says which runs have no place in the chain and why, and which groups are missing."""
    reasons: dict[str, list[str]] = {}
    for system in data.systems:
        if system.setup.text_kind is None:
            reason = (
                system.setup.text_kind_reason or "its manifest does not say what it knows of texts"
            )
            reasons.setdefault(reason, []).append(system.name)
    said = [f"Left out: {join_names(names)} ({reason})." for reason, names in reasons.items()]
    if not has_new_items:
        said.append(
            "The data set has no target without training events, so new items are not measured."
        )
    return said


def _csv(data: ReportData, placed: list[SystemResult], groups: list[str]) -> CsvLink:
    metric = data.comparison.metric
    columns = ("run", "kind", "group", metric, "low", "high", "training_seconds", "price")
    rows = []
    for system in placed:
        for group in groups:
            score = data.comparison.score(system.name, metric, group)
            if score is None:
                continue
            rows.append(
                (
                    system.name,
                    system.setup.text_kind,
                    group,
                    score.value,
                    score.low,
                    score.high,
                    system.total_train_seconds,
                    price_of(system, data.price_per_hour),
                )
            )
    return CsvLink(f"what-pays-{metric}", columns, rows)


def chain_heading(data: ReportData, found: Chain) -> str:
    """States at which steps a gain over the best run of IDs only is shown."""
    comparison = data.comparison
    kinds = {s.name: s.setup.text_kind for s in data.systems}
    if kinds.get(comparison.reference) != "ids":
        return "What words, pretraining and size add"
    paying = []
    for kind, label in KINDS.items():
        names = [step.name for step in found.steps if kinds[step.name] == kind]
        gains = [
            d
            for name in names
            if (d := comparison.difference(name, comparison.metric)) is not None
            and (d.p_holm or 0.0) < comparison.level
            and (d.difference or 0.0) > 0
        ]
        if kind != "ids" and gains:
            paying.append(label)
    if not paying:
        return f"No step of the chain is shown to gain over {comparison.reference}"
    return f"Gains over {comparison.reference} are shown for {join_names(paying)}"
