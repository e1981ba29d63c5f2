"""Gathers what the report of a comparison shows beside the tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import torch
from torch import Tensor

from seqloom.core.progress import Progress
from seqloom.core.protocols import VectorScorer
from seqloom.data.order_checks import OrderCheck
from seqloom.data.store import Dataset, HeldOut
from seqloom.evaluation.compare import Comparison
from seqloom.evaluation.evaluated_run import EvaluatedRun
from seqloom.evaluation.ranking import rank_targets
from seqloom.pipelines.audit import audit
from seqloom.pipelines.audit.order import check_order
from seqloom.pipelines.audit.stage import DataAudit
from seqloom.pipelines.audit.stored import read_audit, summarise_audit
from seqloom.pipelines.compare.named_runs import NamedRun
from seqloom.pipelines.compare.setup import describe_setup
from seqloom.pipelines.evaluate.evaluate import LIST_LENGTH, trained_scorer
from seqloom.pipelines.evaluate.stored import Evaluation
from seqloom.pipelines.prepare.prepare import statistics_table
from seqloom.reports.data import ReportData, SampleUser, SystemResult, system_result
from seqloom.reports.item_map import ItemMap, choose_items, describe_items, map_items
from seqloom.reports.sample_users import draw_users, sample_users
from seqloom.runs.folder import Run
from seqloom.text.prompts import naming_column

SAMPLE_USERS = 3
_FEWEST_ITEMS = 5
"""Fewest items that are worth a map."""
_MOST_POINTS = 8000
"""Points of all maps together, which bound the size of the page."""


def audit_all(runs: Sequence[NamedRun], progress: Progress) -> None:
    """Audits the runs that have no audit or whose files changed since."""
    known: dict[str, DataAudit] = {}
    with progress.task("audit", len(runs), "runs") as task:
        for each in runs:
            stored = read_audit(each.run.path)
            if stored is None or stored.changed:
                audit(each.run.path, known=known, progress=progress)
            task.advance()


def report_data(
    runs: Sequence[NamedRun],
    evaluated: Sequence[EvaluatedRun],
    evaluation: Evaluation,
    result: Comparison,
    *,
    item_map: int,
    price_per_hour: float | None,
    progress: Progress,
) -> ReportData:
    """Gathers data set, setups, audits, sample users and maps of the items."""
    data = runs[0].run.dataset()
    title = naming_column(data.items) or "item_id"
    vectors = _item_vectors(runs)
    chosen = choose_items(data.num_items, min(item_map, _MOST_POINTS // max(len(vectors), 1)))
    mapped = bool(vectors) and len(chosen) >= _FEWEST_ITEMS
    return ReportData(
        created=datetime.now(UTC).strftime("%-d %b %Y"),
        dataset=data.path.resolve().name,
        statistics=dict(statistics_table(data)),
        order=_order_checks(runs),
        protocol=evaluation.details,
        systems=[_system_result(*each) for each in zip(runs, evaluated, strict=True)],
        comparison=result,
        thresholds=evaluation.thresholds,
        mapped_items=describe_items(chosen, data, title) if mapped else None,
        item_maps=_item_maps(vectors, chosen, progress) if mapped else [],
        samples=_samples(runs, evaluated, data, title),
        versions=runs[0].run.manifest.versions,
        price_per_hour=price_per_hour,
    )


def _order_checks(runs: Sequence[NamedRun]) -> list[OrderCheck]:
    """Checks the order of the data set; takes the bound by shuffles, which is slow, from the last audit."""
    checks = check_order(runs[0].run.dataset(with_cold=True), yardsticks=False)
    known = {check.name for check in checks}
    for each in runs:
        stored = read_audit(each.run.path)
        if stored is not None and not stored.changed and stored.audit.order:
            return [*checks, *(check for check in stored.audit.order if check.name not in known)]
    return checks


def _item_vectors(runs: Sequence[NamedRun]) -> dict[str, Tensor]:
    """Returns the item vectors of the runs that score by vectors, by name."""
    scorers = {each.name: each.run.scorer for each in runs}
    return {n: s.item_vectors for n, s in scorers.items() if isinstance(s, VectorScorer)}


def _item_maps(vectors: dict[str, Tensor], chosen: Tensor, progress: Progress) -> list[ItemMap]:
    maps = []
    with progress.task("map of the items", len(vectors), "runs") as task:
        for name, table in vectors.items():
            maps.append(map_items(name, table, chosen))
            task.advance()
    return maps


def _system_result(named: NamedRun, evaluated: EvaluatedRun) -> SystemResult:
    stored = read_audit(named.run.path)
    return system_result(
        evaluated,
        log=named.run.log,
        audit=None if stored is None else summarise_audit(stored),
        setup=describe_setup(named.run),
    )


def _samples(
    runs: Sequence[NamedRun], evaluated: Sequence[EvaluatedRun], data: Dataset, title: str
) -> list[SampleUser]:
    """Draws a few users whose targets are not cold, with each run's list for them."""
    table = evaluated[0].table
    # The rows of the table include cold targets, so the held-out part must too.
    held_out = runs[0].run.dataset(with_cold=True).held_out(table.protocol.part)
    cold = torch.zeros(len(table), dtype=torch.bool) if table.cold is None else table.cold
    warm = torch.nonzero(~cold).flatten()
    drawn = warm[draw_users(data, held_out.users[warm], SAMPLE_USERS, 0, "report users")]
    few = held_out.select(drawn)
    lists = {each.name: _lists(each.run, data, few, table.protocol.masked) for each in runs}
    ranks = {one.name: one.table.ranks[drawn] for one in evaluated}
    return sample_users(data, few, lists, ranks, count=SAMPLE_USERS, title_column=title)


def _lists(run: Run, data: Dataset, held_out: HeldOut, masked: bool) -> Tensor:
    return rank_targets(
        trained_scorer(run),
        held_out,
        popularity=data.popularity[1 : run.trained_items + 1],
        max_len=run.system.max_len,
        mask_seen=masked,
        list_length=LIST_LENGTH,
        keys=run.tie_keys[: run.trained_items],
        device=run.device,
    ).lists
