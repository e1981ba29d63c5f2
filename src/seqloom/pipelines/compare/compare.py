"""`compare`: tests runs against each other on the same users and writes the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import sha256_text
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.core.protocols import VectorScorer
from seqloom.core.random import generator
from seqloom.data.order_checks import OrderCheck
from seqloom.data.store import Dataset, HeldOut, Part
from seqloom.evaluation.compare import Comparison, compare_runs
from seqloom.evaluation.evaluated_run import EvaluatedRun
from seqloom.evaluation.protocol import PROTOCOL_VERSION, RankingProtocol
from seqloom.evaluation.ranking import rank_targets
from seqloom.evaluation.ranks_file import read_ranks
from seqloom.evaluation.record import GroupResult, RunRecord
from seqloom.pipelines.audit import audit
from seqloom.pipelines.audit.order import check_order
from seqloom.pipelines.audit.stage import DataAudit
from seqloom.pipelines.audit.stored import read_audit, summarise_audit
from seqloom.pipelines.compare.latency import measure_latency
from seqloom.pipelines.evaluate.evaluate import LIST_LENGTH, evaluate, trained_scorer
from seqloom.pipelines.evaluate.stored import (
    Evaluation,
    evaluation_files,
    former_evaluation,
    read_evaluation,
)
from seqloom.pipelines.prepare.prepare import statistics_table
from seqloom.reports.comparison import write_report
from seqloom.reports.data import (
    ReportData,
    SampleUser,
    SystemResult,
    long_tail,
    system_result,
)
from seqloom.reports.item_map import ItemMap, choose_items, map_items
from seqloom.reports.sample_users import draw_users, sample_users
from seqloom.runs.folder import Run, load_run
from seqloom.text.prompts import naming_column

SAMPLE_USERS = 3
ITEMS_ON_MAP = 1000
_REQUESTS = 100
"""Number of histories for timing single requests."""
_FEWEST_ITEMS = 5
"""Fewest items that are worth a map."""


@public_function()
def compare(
    runs: Sequence[Run | str | Path],
    *,
    report: str | Path | None = None,
    on: Part = "test",
    mask_seen: bool | None = None,
    all_pairs: bool = False,
    item_map: int = ITEMS_ON_MAP,
    audit_runs: bool = False,
    progress: Progress = AUTO,
) -> Comparison:
    """Compares the full ranking of runs, user by user, against the best run without a language model.

    That run is chosen on validation (`evaluation.reference`); if all runs use a language model or none does,
    the first is the reference. Evaluates runs first that were not evaluated under this version of the
    protocol. Seen items are masked as the runs were trained, or by `mask_seen`. With `report`, also writes an
    HTML file with tables, figures, sample recommendations and the last audit of each run. Its map shows
    `item_map` items of every run that has item vectors (0: no map). With `audit_runs`, audits the runs first
    that have no audit or changed since theirs.

    Raises:
        ConfigError: fewer than two runs, two of the same name, or audits without a report.
        DataError: the runs are of different data sets, users or protocols.
    """
    opened = [run if isinstance(run, Run) else load_run(run) for run in runs]
    if len(opened) < 2:
        raise ConfigError(f"a comparison needs at least two runs; got {len(opened)}")
    if audit_runs and report is None:
        raise ConfigError("audits are shown in the report only; give --report FILE too")
    masked = _decide_mask(opened, progress) if mask_seen is None else mask_seen
    evaluations = [_read_or_evaluate(run, on, masked, progress) for run in opened]
    latencies = []
    with progress.task("time single requests", len(opened), "runs") as task:
        for run in opened:
            latencies.append(_median_latency(run, on, progress))
            task.advance()
    valid = _validation_metrics(opened, masked, progress)
    evaluated = [
        _evaluated_run(*each) for each in zip(opened, evaluations, latencies, valid, strict=True)
    ]
    with progress.task("compare", None, "tests"):
        result = compare_runs(evaluated, pairs="all" if all_pairs else "reference")
    if report is not None:
        if audit_runs:
            _audit_all(opened, progress)
        maps = _item_maps(opened, item_map, progress)
        data = _report_data(opened, evaluated, evaluations[0], result, maps)
        progress.note(f"report: {write_report(report, data)}")
    return result


def _decide_mask(runs: Sequence[Run], progress: Progress) -> bool:
    """Returns whether seen items are masked: as all runs were trained, else they are."""
    decisions = {run.manifest.mask_seen for run in runs}
    if len(decisions) > 1:
        kept = ", ".join(run.name for run in runs if not run.manifest.mask_seen)
        progress.note(
            f"seen items are masked for all runs, although they were not in the training of {kept}; choose "
            "with mask_seen"
        )
        return True
    return decisions.pop()


def _read_or_evaluate(run: Run, on: Part, mask_seen: bool, progress: Progress) -> Evaluation:
    """Returns the stored evaluation, or evaluates with the thresholds of a former one."""
    details = RankingProtocol(
        part=on,
        masked=mask_seen,
        split=run.manifest.dataset.split,
        fingerprint=run.manifest.dataset.fingerprint,
    )
    stored = read_evaluation(run.path, details)
    if stored is not None:
        return stored
    former = former_evaluation(run.path, details)
    thresholds = former.thresholds if former and former.thresholds_given else None
    if former is None:
        progress.note(f"{run.name} is not evaluated under this protocol yet; evaluating it now")
    else:
        progress.note(f"{run.name} is ranked again: {former.details.outdated}")
    return evaluate(
        run,
        on=on,
        mask_seen=mask_seen,
        tail_item_below=thresholds.item if thresholds else None,
        tail_user_below=thresholds.user if thresholds else None,
        progress=progress,
    )


def _validation_metrics(
    runs: Sequence[Run], masked: bool, progress: Progress
) -> list[Mapping[str, float]]:
    """Returns the validation metrics that decide the reference; empty for runs that are no candidates.

    Reads them from the manifest; evaluates again if they were measured under a former protocol, or with
    different decisions about seen items.
    """
    plain = [run for run in runs if not run.system.uses_language_model]
    if len(plain) < 2 or len(plain) == len(runs):
        return [{} for _ in runs]
    decisions = {run.manifest.mask_seen for run in plain}
    if len(decisions) == 1:
        masked = decisions.pop()
    metrics: list[Mapping[str, float]] = []
    for run in runs:
        if run not in plain:
            metrics.append({})
        elif run.manifest.valid_protocol == PROTOCOL_VERSION and run.manifest.mask_seen == masked:
            metrics.append(run.manifest.valid)
        else:
            try:
                metrics.append(_read_or_evaluate(run, "valid", masked, progress).metrics)
            except (ArtefactError, ConfigError) as error:
                progress.warn(f"the validation metrics of {run.name} are unknown: {error}")
                metrics.append({})
    return metrics


def _audit_all(runs: Sequence[Run], progress: Progress) -> None:
    """Audits the runs that have no audit or whose files changed since."""
    known: dict[str, DataAudit] = {}
    with progress.task("audit", len(runs), "runs") as task:
        for run in runs:
            stored = read_audit(run.path)
            if stored is None or stored.changed:
                audit(run.path, known=known, progress=progress)
            task.advance()


def _median_latency(run: Run, on: Part, progress: Progress) -> float | None:
    """Times single requests with random histories, the same for every run; returns the median in ms.

    None if the data set is no longer available.
    """
    try:
        histories = run.dataset().held_out(on).histories
    except ArtefactError as error:
        progress.warn(f"the latency of {run.name} is not measured: {error}")
        return None
    drawn = torch.randperm(len(histories), generator=generator(0, "latency"))[:_REQUESTS]
    return measure_latency(run, histories.select(drawn)).median_ms


def _series(run: Run) -> str:
    """Returns a hash that is equal for runs that differ only in their seed."""
    config = run.system.config.model_dump(mode="json", exclude={"seed"})
    return sha256_text(run.manifest.system, json.dumps(config, sort_keys=True))


def _evaluated_run(
    run: Run, evaluation: Evaluation, latency_ms: float | None, valid: Mapping[str, float]
) -> EvaluatedRun:
    """Reads the ranks of an evaluation and puts the record of the run beside them."""
    _, ranks = evaluation_files(run.path, evaluation.details)
    manifest, system = run.manifest, run.system
    record = RunRecord(
        name=run.name,
        system=manifest.system,
        metrics=evaluation.metrics,
        groups={name: GroupResult.build(group) for name, group in evaluation.groups.items()},
        other=evaluation.other,
        valid=dict(valid),
        seed=system.config.seed,
        series=_series(run),
        uses_language_model=system.uses_language_model,
        yardstick=system.yardstick,
        train_seconds=manifest.cost.seconds_with_members,
        embed_seconds=sum(manifest.embed_seconds.values()),
        latency_ms=latency_ms,
        evaluate_seconds=evaluation.seconds,
        peak_rss_mb=manifest.cost.peak_rss_mb,
        parameters=manifest.parameters,
        trained_parameters=manifest.trained_parameters,
        device=manifest.cost.device,
    )
    return EvaluatedRun(record, read_ranks(ranks))


def _report_data(
    runs: Sequence[Run],
    evaluated: Sequence[EvaluatedRun],
    evaluation: Evaluation,
    result: Comparison,
    maps: list[ItemMap],
) -> ReportData:
    data = runs[0].dataset()
    return ReportData(
        title="Sequential recommendation: comparison of runs",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        dataset=data.path.resolve().name,
        statistics=dict(statistics_table(data)),
        order=_order_checks(runs),
        protocol=evaluation.details,
        systems=[_system_result(*each) for each in zip(runs, evaluated, strict=True)],
        comparison=result,
        long_tail=long_tail(data, evaluation.thresholds),
        item_maps=maps,
        samples=_samples(runs, evaluated, data),
        versions=runs[0].manifest.versions,
    )


def _order_checks(runs: Sequence[Run]) -> list[OrderCheck]:
    """Checks the order of the data set; takes the bound by shuffles, which is slow, from the last audit."""
    checks = check_order(runs[0].dataset(with_cold=True), yardsticks=False)
    known = {check.name for check in checks}
    for run in runs:
        stored = read_audit(run.path)
        if stored is not None and not stored.changed and stored.audit.order:
            return [*checks, *(each for each in stored.audit.order if each.name not in known)]
    return checks


def _item_maps(runs: Sequence[Run], count: int, progress: Progress) -> list[ItemMap]:
    """Maps `count` items for each run that has item vectors."""
    data = runs[0].dataset()
    chosen = choose_items(data.num_items, count)
    scorers = {run.name: run.scorer for run in runs}
    vectors = {n: s.item_vectors for n, s in scorers.items() if isinstance(s, VectorScorer)}
    if len(chosen) < _FEWEST_ITEMS or not vectors:
        return []
    maps = []
    with progress.task("map of the items", len(vectors), "runs") as task:
        for name, table in vectors.items():
            maps.append(map_items(name, table, chosen, data))
            task.advance()
    return maps


def _system_result(run: Run, evaluated: EvaluatedRun) -> SystemResult:
    stored = read_audit(run.path)
    audit = None if stored is None else summarise_audit(stored)
    return system_result(evaluated, log=run.log, audit=audit)


def _samples(
    runs: Sequence[Run], evaluated: Sequence[EvaluatedRun], data: Dataset
) -> list[SampleUser]:
    """Draws a few users whose targets are not cold, with each run's list for them."""
    table = evaluated[0].table
    # The rows of the table include cold targets, so the held-out part must too.
    held_out = runs[0].dataset(with_cold=True).held_out(table.protocol.part)
    cold = torch.zeros(len(table), dtype=torch.bool) if table.cold is None else table.cold
    warm = torch.nonzero(~cold).flatten()
    drawn = warm[draw_users(data, held_out.users[warm], SAMPLE_USERS, 0, "report users")]
    few = held_out.select(drawn)
    lists = {run.name: _lists(run, data, few, table.protocol.masked) for run in runs}
    ranks = {one.name: one.table.ranks[drawn] for one in evaluated}
    title = naming_column(data.items) or "item_id"
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
