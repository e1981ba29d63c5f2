"""Reads or makes what a comparison needs of each run: ranks, metrics, validation, latency."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import sha256_text
from seqloom.core.progress import Progress
from seqloom.core.random import generator
from seqloom.data.store import Part
from seqloom.evaluation.evaluated_run import EvaluatedRun
from seqloom.evaluation.groups import group_metrics
from seqloom.evaluation.metrics import rank_metrics
from seqloom.evaluation.protocol import PROTOCOL_VERSION, RankingProtocol
from seqloom.evaluation.ranks_file import RankTable, read_ranks
from seqloom.evaluation.record import GroupResult, OtherProtocol, RunRecord
from seqloom.pipelines.compare.latency import measure_latency
from seqloom.pipelines.compare.named_runs import NamedRun
from seqloom.pipelines.compare.setup import holds_language_model
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.evaluate.stored import (
    Evaluation,
    evaluation_files,
    former_evaluation,
    read_evaluation,
)
from seqloom.runs.folder import Run

_REQUESTS = 100
"""Number of histories for timing single requests."""


def decide_mask(runs: Sequence[NamedRun], progress: Progress) -> bool:
    """Returns whether seen items are masked: as all runs were trained, else they are."""
    decisions = {each.run.manifest.mask_seen for each in runs}
    if len(decisions) > 1:
        kept = ", ".join(each.name for each in runs if not each.run.manifest.mask_seen)
        progress.note(
            f"seen items are masked for all runs, although they were not in the training of {kept}; choose "
            "with mask_seen"
        )
        return True
    return decisions.pop()


def measure(
    runs: Sequence[NamedRun],
    on: Part,
    masked: bool,
    metrics: Sequence[str],
    progress: Progress,
) -> tuple[list[EvaluatedRun], Evaluation]:
    """Evaluates runs where that is not done, and times requests.

    Returns each run's record and ranks, and the evaluation of the first run.
    """
    evaluations = [read_or_evaluate(each, on, masked, progress) for each in runs]
    latencies = []
    with progress.task("time single requests", len(runs), "runs") as task:
        for each in runs:
            latencies.append(_median_latency(each, on, progress))
            task.advance()
    valid = _validation_metrics(runs, masked, metrics, progress)
    evaluated = [
        _evaluated_run(each, evaluation, latency, known, metrics)
        for each, evaluation, latency, known in zip(
            runs, evaluations, latencies, valid, strict=True
        )
    ]
    return evaluated, evaluations[0]


def read_or_evaluate(named: NamedRun, on: Part, mask_seen: bool, progress: Progress) -> Evaluation:
    """Returns the stored evaluation, or evaluates with the thresholds of a former one."""
    run = named.run
    details = _protocol(run, on, mask_seen)
    stored = read_evaluation(run.path, details)
    if stored is not None:
        return stored
    former = former_evaluation(run.path, details)
    thresholds = former.thresholds if former and former.thresholds_given else None
    if former is None:
        progress.note(f"{named.name} is not evaluated under this protocol yet; evaluating it now")
    else:
        progress.note(f"{named.name} is ranked again: {former.details.outdated}")
    return evaluate(
        run,
        on=on,
        mask_seen=mask_seen,
        tail_item_below=thresholds.item if thresholds else None,
        tail_user_below=thresholds.user if thresholds else None,
        progress=progress,
    )


def _protocol(run: Run, on: Part, masked: bool) -> RankingProtocol:
    data = run.manifest.dataset
    return RankingProtocol(part=on, masked=masked, split=data.split, fingerprint=data.fingerprint)


def _validation_metrics(
    runs: Sequence[NamedRun], masked: bool, metrics: Sequence[str], progress: Progress
) -> list[Mapping[str, float]]:
    """Returns the validation metrics that decide the reference; empty for runs that are no candidates.

    Reads them from the manifest; evaluates again if they were measured under a former protocol, or with
    different decisions about seen items.
    """
    plain = [each for each in runs if not each.run.system.uses_language_model]
    if len(plain) < 2:
        return [{} for _ in runs]
    decisions = {each.run.manifest.mask_seen for each in plain}
    if len(decisions) == 1:
        masked = decisions.pop()
    found: list[Mapping[str, float]] = []
    for each in runs:
        manifest = each.run.manifest
        if each not in plain:
            found.append({})
        elif manifest.valid_protocol == PROTOCOL_VERSION and manifest.mask_seen == masked:
            found.append(manifest.valid)
        else:
            try:
                found.append(read_or_evaluate(each, "valid", masked, progress).metrics)
            except (ArtefactError, ConfigError) as error:
                progress.warn(f"the validation metrics of {each.name} are unknown: {error}")
                found.append({})
    return found


def _median_latency(named: NamedRun, on: Part, progress: Progress) -> float | None:
    """Times single requests with random histories, the same for every run; returns the median in ms.

    None if the data set is no longer available.
    """
    try:
        histories = named.run.dataset().held_out(on).histories
    except ArtefactError as error:
        progress.warn(f"the latency of {named.name} is not measured: {error}")
        return None
    drawn = torch.randperm(len(histories), generator=generator(0, "latency"))[:_REQUESTS]
    return measure_latency(named.run, histories.select(drawn)).median_ms


def _series(run: Run) -> str:
    """Returns a hash that is equal for runs that differ only in their seed."""
    config = run.system.config.model_dump(mode="json", exclude={"seed"})
    return sha256_text(run.manifest.system, json.dumps(config, sort_keys=True))


def _evaluated_run(
    named: NamedRun,
    evaluation: Evaluation,
    latency_ms: float | None,
    valid: Mapping[str, float],
    metrics: Sequence[str],
) -> EvaluatedRun:
    """Reads the ranks of an evaluation and puts the record of the run beside them."""
    run = named.run
    _, ranks = evaluation_files(run.path, evaluation.details)
    table = read_ranks(ranks)
    manifest, system = run.manifest, run.system
    groups = {name: GroupResult.build(group) for name, group in evaluation.groups.items()}
    record = RunRecord(
        name=named.name,
        system=manifest.system,
        metrics=evaluation.metrics,
        groups=groups,
        other=evaluation.other,
        valid=dict(valid),
        seed=system.config.seed,
        series=_series(run),
        uses_language_model=system.uses_language_model,
        unused_language_model=holds_language_model(manifest) and not system.uses_language_model,
        reads_text=system.reads_text,
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
    missing = [name for name in metrics if name not in evaluation.metrics]
    if missing:
        record = record.model_copy(update=_at_further_cutoffs(record, table, missing, run))
    return EvaluatedRun(record, table)


def _at_further_cutoffs(
    record: RunRecord, table: RankTable, metrics: Sequence[str], run: Run
) -> dict[str, Any]:
    """Computes metrics that evaluations do not store from the ranks; returns changed fields of the record."""
    changed: dict[str, Any] = {
        "metrics": record.metrics | rank_metrics(table.ranks, metrics),
        "groups": _with_metrics(record.groups, table, metrics),
    }
    if record.other is not None:
        details = table.protocol.model_copy(update={"masked": record.other.masked})
        _, ranks = evaluation_files(run.path, details)
        if ranks.exists():
            other = read_ranks(ranks)
            changed["other"] = OtherProtocol(
                masked=record.other.masked,
                metrics=record.other.metrics | rank_metrics(other.ranks, metrics),
                groups=_with_metrics(record.other.groups, other, metrics),
            )
    return changed


def _with_metrics(
    groups: Mapping[str, GroupResult], table: RankTable, metrics: Sequence[str]
) -> dict[str, GroupResult]:
    further = group_metrics(table.ranks, table.members, metrics)
    return {
        name: group
        if group.metrics is None or name not in further
        else group.model_copy(update={"metrics": group.metrics | (further[name]["metrics"] or {})})
        for name, group in groups.items()
    }
