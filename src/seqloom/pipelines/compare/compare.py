"""`compare`: runs on the same users, tested against each other, and the report that shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import sha256_text
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import VectorScorer
from seqloom.core.random import generator
from seqloom.data.store import Dataset, HeldOut, Part
from seqloom.evaluation.compare import Comparison, EvaluatedRun, compare_runs
from seqloom.evaluation.protocol import PROTOCOL_VERSION, RankingProtocol
from seqloom.evaluation.ranking import rank_targets
from seqloom.evaluation.ranks_file import read_ranks
from seqloom.pipelines.audit import audit
from seqloom.pipelines.audit.report import Check
from seqloom.pipelines.audit.stored import read_audit, summarise_audit
from seqloom.pipelines.compare.latency import measure_latency
from seqloom.pipelines.evaluate.evaluate import (
    LIST_LENGTH,
    Evaluation,
    evaluate,
    evaluation_files,
    former_evaluation,
    read_evaluation,
    trained_scorer,
)
from seqloom.pipelines.prepare.prepare import statistics_table
from seqloom.reports.comparison import write_report
from seqloom.reports.item_map import ItemMap, choose_items, map_items
from seqloom.reports.report_data import (
    ReportData,
    SampleUser,
    SystemResult,
    long_tail,
    system_result,
)
from seqloom.reports.sample_users import draw_users, sample_users
from seqloom.runs.folder import Run, load_run
from seqloom.text.prompts import naming_column

SAMPLE_USERS = 3
ITEMS_ON_MAP = 1000
_REQUESTS = 100
"""Histories that single requests are timed with."""
_FEWEST_ITEMS = 5
"""Below, a map says nothing."""


def compare(
    runs: Sequence[Run | str | Path],
    *,
    report: str | Path | None = None,
    on: Part = "test",
    mask_seen: bool = True,
    all_pairs: bool = False,
    item_map: int = ITEMS_ON_MAP,
    audit_runs: bool = False,
    progress: Progress = SILENT,
) -> Comparison:
    """Compare the full ranking of runs, user by user, against the best run without a language model.

    That one is chosen on validation (`evaluation.reference`); where all runs use a language model or none
    does, the first is the reference. A run that was not evaluated yet under this protocol, or by an
    older seqloom under a former one, is evaluated first. With `report`, an HTML
    file with tables, figures and sample recommendations is written too. Its map shows `item_map` items
    of every run that has item vectors; 0 draws none. It shows what the last audit of each run found; with
    `audit_runs` those that have none, or changed since, are audited first.

    Raises:
        ConfigError: fewer than two runs, two of the same name, or audits without a report.
        DataError: the runs are of different data sets, users or protocols.
    """
    opened = [run if isinstance(run, Run) else load_run(run) for run in runs]
    if len(opened) < 2:
        raise ConfigError(f"found {len(opened)} run(s); a comparison needs at least two")
    if audit_runs and report is None:
        raise ConfigError("audits are shown in the report; give --report FILE too")
    found = [_evaluated(run, on, mask_seen, progress) for run in opened]
    latencies = []
    with progress.task("time single requests", len(opened), "runs") as task:
        for run in opened:
            latencies.append(_latency(run, on, progress))
            task.advance()
    valid = _valid(opened, progress)
    evaluated = [_with_ranks(*each) for each in zip(opened, found, latencies, valid, strict=True)]
    with progress.task("compare", None, "tests"):
        result = compare_runs(evaluated, pairs="all" if all_pairs else "reference")
    if report is not None:
        if audit_runs:
            _audit_all(opened, progress)
        maps = _item_maps(opened, item_map, progress)
        data = _report(opened, evaluated, found, result, maps)
        progress.note(f"report: {write_report(report, data)}")
    return result


def _evaluated(run: Run, on: Part, mask_seen: bool, progress: Progress) -> Evaluation:
    details = RankingProtocol(
        part=on,
        masked=mask_seen,
        split=run.manifest.dataset.split,
        fingerprint=run.manifest.dataset.fingerprint,
    )
    found = read_evaluation(run.path, details)
    if found is not None:
        return found
    former = former_evaluation(run.path, details)
    limits = former.thresholds if former and former.thresholds_given else None
    if former is None:
        progress.note(f"{run.name} is not evaluated under this protocol yet; doing it now")
    else:
        progress.note(f"{run.name} is ranked again: {former.details.outdated}")
    return evaluate(
        run,
        on=on,
        mask_seen=mask_seen,
        tail_item_below=limits.item if limits else None,
        tail_user_below=limits.user if limits else None,
        progress=progress,
    )


def _valid(runs: Sequence[Run], progress: Progress) -> list[Mapping[str, float]]:
    """Validation metrics by which the reference is chosen; empty for runs that it is not chosen from.

    Those of a run's manifest; measured again where an older seqloom measured them under a former protocol.
    """
    plain = [run for run in runs if not run.system.uses_language_model]
    if len(plain) < 2 or len(plain) == len(runs):
        return [{} for _ in runs]
    found: list[Mapping[str, float]] = []
    for run in runs:
        if run not in plain:
            found.append({})
        elif run.manifest.valid_protocol == PROTOCOL_VERSION:
            found.append(run.manifest.valid)
        else:
            try:
                found.append(_evaluated(run, "valid", True, progress).metrics)
            except (ArtefactError, ConfigError) as error:
                progress.warn(f"the validation metrics of {run.name} are not known: {error}")
                found.append({})
    return found


def _audit_all(runs: Sequence[Run], progress: Progress) -> None:
    """Audit the runs whose last audit is none, or of other files."""
    known: dict[str, list[Check]] = {}
    with progress.task("audit", len(runs), "runs") as task:
        for run in runs:
            stored = read_audit(run.path)
            if stored is None or stored.changed:
                audit(run.path, known=known, progress=progress)
            task.advance()


def _latency(run: Run, on: Part, progress: Progress) -> float | None:
    """The median of single requests, in ms, with the histories of users drawn at random, the same for every
    run; None where the data set is no longer there."""
    try:
        histories = run.dataset().held_out(on).histories
    except ArtefactError as error:
        progress.warn(f"the latency of {run.name} is not measured: {error}")
        return None
    drawn = torch.randperm(len(histories), generator=generator(0, "latency"))[:_REQUESTS]
    return measure_latency(run, histories.select(drawn)).median_ms


def _series(run: Run) -> str:
    """Equal for runs that differ in their seed alone."""
    config = run.system.config.model_dump(mode="json", exclude={"seed"})
    return sha256_text(run.manifest.system, json.dumps(config, sort_keys=True))


def _with_ranks(
    run: Run, found: Evaluation, latency_ms: float | None, valid: Mapping[str, float]
) -> EvaluatedRun:
    _, ranks = evaluation_files(run.path, found.details)
    return EvaluatedRun(
        name=run.name,
        system=run.manifest.system,
        table=read_ranks(ranks),
        metrics=found.metrics,
        groups=found.groups,
        train_seconds=run.manifest.cost.seconds_with_members,
        parameters=run.manifest.parameters,
        seed=run.system.config.seed,
        series=_series(run),
        uses_language_model=run.system.uses_language_model,
        yardstick=run.system.yardstick,
        valid=valid,
        embed_seconds=sum(run.manifest.embed_seconds.values()),
        latency_ms=latency_ms,
    )


def _report(
    runs: Sequence[Run],
    evaluated: Sequence[EvaluatedRun],
    found: Sequence[Evaluation],
    result: Comparison,
    maps: list[ItemMap],
) -> ReportData:
    data = runs[0].dataset()
    return ReportData(
        title="Sequential recommendation: comparison of runs",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        dataset=data.path.resolve().name,
        statistics=dict(statistics_table(data)),
        protocol=found[0].details,
        systems=[_system(*each) for each in zip(runs, evaluated, found, strict=True)],
        comparison=result,
        long_tail=long_tail(data, found[0].thresholds),
        item_maps=maps,
        samples=_samples(runs, evaluated, data),
        versions=runs[0].manifest.versions,
    )


def _item_maps(runs: Sequence[Run], count: int, progress: Progress) -> list[ItemMap]:
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


def _system(run: Run, evaluated: EvaluatedRun, found: Evaluation) -> SystemResult:
    cost = run.manifest.cost
    stored = read_audit(run.path)
    return system_result(
        evaluated,
        log=run.log,
        evaluate_seconds=found.seconds,
        peak_rss_mb=cost.peak_rss_mb,
        trained_parameters=run.manifest.trained_parameters,
        device=cost.device,
        audit=None if stored is None else summarise_audit(stored),
    )


def _samples(
    runs: Sequence[Run], evaluated: Sequence[EvaluatedRun], data: Dataset
) -> list[SampleUser]:
    """A few users drawn at random, with each run's list for them; their targets are not cold."""
    table = evaluated[0].table
    # Row r of the table is row r here: a part without the cold targets has other rows.
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
