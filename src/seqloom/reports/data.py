"""The data of a report: plain models, so that a report can be stored as JSON and rendered again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from seqloom.core.config import Config
from seqloom.data.order_checks import OrderCheck
from seqloom.evaluation.compare import Comparison
from seqloom.evaluation.evaluated_run import EvaluatedRun
from seqloom.evaluation.groups import GroupThresholds, bin_metrics, group_metrics
from seqloom.evaluation.metrics import parse_metric
from seqloom.evaluation.protocol import StoredProtocol
from seqloom.evaluation.ranks_file import RankTable
from seqloom.evaluation.record import GroupResult, RunRecord
from seqloom.reports.item_map import ItemMap, MappedItems


class BinResult(GroupResult):
    """Metrics of the users whose value is in [low, high]."""

    low: int
    high: int


class GridCell(GroupResult):
    """Metrics of the users with one length of history and one popularity of target."""

    user: Literal["tail", "head"]
    item: Literal["cold", "tail", "head"]


class AuditRow(Config):
    """The verdict on one artefact, or on all artefacts of one part of a run."""

    artefact: str
    verdict: Literal["pass", "fail", "unknown"]
    checks: int = 1
    """Number of checks; the verdict is the worst of theirs."""
    reason: str = ""
    """Why a check failed or its verdict is unknown."""


class AuditResult(Config):
    """The result of a run's last audit."""

    date: str
    passed: bool
    proved: int
    """Checks that passed."""
    failed: int
    unknown: int
    rows: list[AuditRow]
    changed: list[str] = Field(default_factory=list)
    """Files of the run that changed since the audit, which make the verdict invalid."""


TextKind = Literal["ids", "words", "pretrained", "tuned", "model"]
"""What a run knows of texts: nothing, words without knowledge of language (hashed or started at random),
vectors of a pretrained encoder, vectors that the log tuned, or a whole language model."""


class Setup(Config):
    """How a run was made."""

    settings: dict[str, str] = Field(default_factory=dict)
    """Dotted configuration key -> value as text."""
    encoder: str = ""
    """The text encoder or language model; empty without one."""
    device: str = ""
    """Device, threads and processes of the training."""
    epochs: str = ""
    """Epochs, and the one that was kept."""
    text_kind: TextKind | None = None
    text_kind_reason: str = ""
    """Why the kind is not known, or why the run is in no chain of kinds."""


class SystemResult(RunRecord):
    """The record of a run with the further data that a report shows."""

    setup: Setup = Field(default_factory=Setup)

    item_bins: list[BinResult] = Field(default_factory=list)
    """By the target's training events."""
    user_bins: list[BinResult] = Field(default_factory=list)
    """By the user's training events."""
    grid: list[GridCell] = Field(default_factory=list)
    """Tail and head users by cold, tail and head targets, in this order, empty cells included."""
    log: list[dict[str, Any]] = Field(default_factory=list)
    """Rows of `log.jsonl`: `phase`, `epoch`, `train` and, where validated, `valid`."""
    audit: AuditResult | None = None
    """None where the run was never audited."""


class ShownItem(Config):
    """An item in a list."""

    item_id: str
    title: str


class SampleUser(Config):
    """One user and the recommendations of each system."""

    user_id: str
    history: list[ShownItem]
    """The last few items, oldest first."""
    history_length: int
    target: ShownItem
    recommendations: dict[str, list[ShownItem]]
    """Run name -> best first."""
    ranks: dict[str, int] = Field(default_factory=dict)
    """Run name -> rank of the target."""


class ReportData(Config):
    """The data of `write_report`. Empty parts are omitted from the page."""

    created: str
    """Date as text."""
    dataset: str
    """Name of the data set."""
    statistics: dict[str, int | float | str]
    """Label -> number, in the order of display."""
    order: list[OrderCheck] = Field(default_factory=list)
    """Checks of the order of the events."""
    protocol: StoredProtocol
    systems: list[SystemResult]
    comparison: Comparison
    thresholds: GroupThresholds | None = None
    """Training events that make an item or a user head."""
    mapped_items: MappedItems | None = None
    item_maps: list[ItemMap] = Field(default_factory=list)
    """Maps of the item vectors of each run that has them, all of `mapped_items`."""
    samples: list[SampleUser] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    price_per_hour: float | None = None
    """Price of an hour of the machine that trains; None if it is not known."""


def system_result(
    run: EvaluatedRun,
    *,
    log: Sequence[dict[str, Any]] = (),
    bins: int = 5,
    audit: AuditResult | None = None,
    setup: Setup | None = None,
) -> SystemResult:
    """Adds to a run's record its bins by item popularity and user length, its log, audit and setup."""
    table = run.table
    names = [name for name in run.record.metrics if _is_rank_metric(name)]
    by_item, by_user = (
        [BinResult.build(b) for b in bin_metrics(table.ranks, values, bins, names)]
        for values in (table.target_counts, table.training_lengths)
    )
    return SystemResult(
        **dict(run.record),
        item_bins=by_item,
        user_bins=by_user,
        grid=_grid(table, names),
        log=list(log),
        audit=audit,
        setup=setup or Setup(),
    )


def _grid(table: RankTable, names: Sequence[str]) -> list[GridCell]:
    cold, members = table.target_counts == 0, table.members
    items = {"cold": cold, "tail": members["tail_item"] & ~cold, "head": members["head_item"]}
    masks = {
        (user, item): members[f"{user}_user"] & mask
        for user in ("tail", "head")
        for item, mask in items.items()
    }
    metrics = group_metrics(
        table.ranks, {f"{u} {i}": mask for (u, i), mask in masks.items()}, names
    )
    return [
        GridCell.build({"user": user, "item": item, **metrics[f"{user} {item}"]})
        for user, item in masks
    ]


def _is_rank_metric(name: str) -> bool:
    return name.partition("@")[0] in ("hr", "ndcg", "mrr") and bool(parse_metric(name))
