"""`reproduce`: train a run again from what it says of itself, and see whether the same comes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file

from seqloom.core.config import Config
from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT, Progress
from seqloom.data.store import Dataset
from seqloom.evaluation.negatives import NEGATIVES
from seqloom.evaluation.ranks_file import read_ranks
from seqloom.pipelines.evaluate.evaluate import (
    Evaluation,
    evaluate,
    evaluation_files,
    read_metrics,
)
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import Run, load_run
from seqloom.runs.manifest import RunManifest
from seqloom.runs.run_files import read_stored_config

TOLERANCE = 1e-3
"""Largest difference of a metric that still counts as the same, where the bits differ."""


class Change(Config):
    """Something that a run depends on and that is not what it was."""

    what: str
    before: str | None
    now: str | None


class MetricCheck(Config):
    """One metric of the run and of its repetition."""

    evaluation: str
    """`valid` for the metrics that training measured, else the file that `evaluate` wrote."""
    metric: str
    before: float
    now: float
    difference: float
    """now - before."""


class Reproduction(Config):
    """What `reproduce` found."""

    run: str
    again: str
    """Where the repetition is."""
    verdict: Literal["bits", "metrics", "differs"]
    """`bits`: the same weights and the same rank of every target; `metrics`: every metric within the
    tolerance; `differs`: neither."""
    sentence: str
    """The verdict in plain words."""
    changes: list[Change]
    """Versions and inputs that differ."""
    weights_equal: bool
    largest_weight_difference: float | None
    """None where the weights do not have the same names and shapes."""
    first_epoch_apart: int | None
    """The first line of the log, from 1, with another loss; None where all are equal."""
    ranks_apart: int
    """Targets whose rank is another one, over all evaluations."""
    metrics: list[MetricCheck]
    tolerance: float
    seconds_before: float
    seconds_now: float


def reproduce(
    run: str | Path,
    *,
    out: str | Path | None = None,
    dataset: Dataset | str | Path | None = None,
    device: str | None = None,
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Reproduction:
    """Train the run again into `out` (RUN-again), evaluate it as it was evaluated, and compare.

    The data set must be the one the run was trained on. Configuration and seed are the run's, and so are
    device and number of threads where they can be had. On a CPU with the same versions the bits are the same,
    unless several processes trained the run: here it is one.

    Raises:
        ArtefactError: no complete run, its data set is gone or another one, or `out` exists.
        ConfigError: the run is no result of training alone (items were added to it).
    """
    first = load_run(run)
    if first.manifest.added_items:
        raise ConfigError(
            f"{run} has items that were added after training; reproduce the run that it was made from"
        )
    data = dataset if isinstance(dataset, Dataset) else first.dataset(dataset, with_cold=True)
    again = Path(out) if out is not None else first.path.with_name(f"{first.name}-again")
    if again.resolve() == first.path.resolve():
        raise ConfigError(f"--out is the run itself, {again}; give another folder")
    with _threads(first.manifest.cost.threads):
        train(
            data,
            first.manifest.system,
            out=again,
            config=_config(first),
            overwrite=overwrite,
            device=device or first.manifest.cost.device,
            progress=progress,
        )
        second = load_run(again)
        checks, apart = _evaluations(first, second, data, progress)
    return _judge(first, second, checks, apart, tolerance)


def _config(run: Run) -> dict[str, Any]:
    """The run's configuration, with the folders of other runs as they were found then."""
    config = read_stored_config(run.path)
    if run.manifest.members:
        config["runs"] = [member.run for member in run.manifest.members]
    ids = config.get("ids")
    if run.manifest.ids and isinstance(ids, dict) and ids.get("run"):
        config["ids"] = {**ids, "run": run.manifest.ids["run"]}
    return config


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """As many threads as the run had, since sums are split among them; 0 where that is not known."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _evaluations(
    first: Run, second: Run, data: Dataset, progress: Progress
) -> tuple[list[MetricCheck], int]:
    """Each stored evaluation done again, and how many targets have another rank."""
    checks: list[MetricCheck] = []
    apart = 0
    if first.manifest.valid_protocol == second.manifest.valid_protocol:
        checks += _checks("valid", first.manifest.valid, second.manifest.valid)
    else:
        progress.warn(
            f"{first.name} chose its weights under a former ranking protocol, so its validation metrics are "
            "not compared, and another epoch may have been kept"
        )
    for file in sorted(first.path.glob("metrics*.json")):
        before = read_metrics(file, first.manifest)
        if before.details.outdated:
            progress.note(f"{first.name} is ranked again: {before.details.outdated}")
            before = _evaluated_as(before, first, data, progress)
        details = before.details
        now = _evaluated_as(before, second, data, progress)
        checks += _checks(file.name, before.metrics, now.metrics)
        tables = [read_ranks(evaluation_files(each.path, details)[1]) for each in (first, second)]
        apart += int((tables[0].ranks != tables[1].ranks).sum())
    return checks, apart


def _evaluated_as(before: Evaluation, run: Run, data: Dataset, progress: Progress) -> Evaluation:
    """`run` evaluated with the options of an earlier evaluation."""
    details, limits = before.details, before.thresholds
    by_hand = before.thresholds_given
    return evaluate(
        run,
        protocol=details.kind,
        on=details.part,
        mask_seen=details.masked,
        negatives=details.negatives or NEGATIVES,
        tail_item_below=limits.item if by_hand else None,
        tail_user_below=limits.user if by_hand else None,
        dataset=data,
        progress=progress,
    )


def _checks(name: str, before: Mapping[str, float], now: Mapping[str, float]) -> list[MetricCheck]:
    return [
        MetricCheck(
            evaluation=name,
            metric=metric,
            before=value,
            now=now[metric],
            difference=now[metric] - value,
        )
        for metric, value in before.items()
        if metric in now
    ]


def _judge(
    first: Run, second: Run, checks: list[MetricCheck], apart: int, tolerance: float
) -> Reproduction:
    equal, largest = _weights(first, second)
    changes = _changes(first.manifest, second.manifest)
    # Popularity and novelty of lists have other units than the metrics of ranks.
    ranked = [check for check in checks if check.metric.startswith(("hr@", "ndcg@", "mrr"))]
    furthest = max((abs(check.difference) for check in ranked), default=0.0)
    if equal and not apart:
        verdict: Literal["bits", "metrics", "differs"] = "bits"
        sentence = "Reproduced bit for bit: the same weights and the same rank of every target."
    elif furthest <= tolerance:
        verdict = "metrics"
        sentence = (
            f"Reproduced within {tolerance:g}: other bits, but no metric moved by more than "
            f"{furthest:.2g}."
        )
    else:
        verdict = "differs"
        sentence = f"Not reproduced: a metric moved by {furthest:.2g}, more than {tolerance:g}."
    if verdict != "bits":
        told = "; ".join(f"{c.what}: {c.before} then, {c.now} now" for c in changes)
        sentence += f" What differs: {told or 'nothing that the runs say of themselves'}."
    return Reproduction(
        run=str(first.path),
        again=str(second.path),
        verdict=verdict,
        sentence=sentence,
        changes=changes,
        weights_equal=equal,
        largest_weight_difference=largest,
        first_epoch_apart=_first_apart(first, second),
        ranks_apart=apart,
        metrics=checks,
        tolerance=tolerance,
        seconds_before=first.manifest.cost.seconds_total,
        seconds_now=second.manifest.cost.seconds_total,
    )


def _weights(first: Run, second: Run) -> tuple[bool, float | None]:
    """Whether all stored weights and files have the same bits, and the largest difference of a weight."""
    equal = (
        first.manifest.weights_sha256 == second.manifest.weights_sha256
        and first.manifest.files == second.manifest.files
    )
    if equal:
        return True, 0.0
    before, now = (load_file(run.path / "weights.safetensors") for run in (first, second))
    shapes = [{name: value.shape for name, value in each.items()} for each in (before, now)]
    if shapes[0] != shapes[1]:
        return False, None
    gaps = [
        float((before[name].double() - now[name].double()).abs().max())
        for name in before
        if before[name].numel()
    ]
    return False, max(gaps, default=0.0)


def _first_apart(first: Run, second: Run) -> int | None:
    losses = [[row.get("train", {}) for row in run.log] for run in (first, second)]
    for number, pair in enumerate(zip(*losses, strict=False), start=1):
        if pair[0] != pair[1]:
            return number
    shorter, longer = sorted(map(len, losses))
    return None if shorter == longer else shorter + 1


def _changes(before: RunManifest, now: RunManifest) -> list[Change]:
    """Versions, hardware and inputs of which the two manifests say something different."""
    facts = [_facts(manifest) for manifest in (before, now)]
    names = list(dict.fromkeys([*facts[0], *facts[1]]))
    pairs = [(name, facts[0].get(name), facts[1].get(name)) for name in names]
    return [Change(what=name, before=a, now=b) for name, a, b in pairs if a != b]


def _facts(manifest: RunManifest) -> dict[str, str]:
    found = {"seqloom": manifest.seqloom, **manifest.versions, "device": manifest.cost.device}
    if manifest.cost.threads:  # an older seqloom did not note them
        found["threads"] = str(manifest.cost.threads)
    found["processes"] = str(manifest.cost.processes)
    text = manifest.text or {}
    for part in ("items", "users"):
        if text.get(part):
            found[f"text embedding of {part}"] = text[part]["file_sha256"]
    if manifest.base:
        found["language model"] = manifest.base["sha256"]
    if manifest.ids:
        found["ids of another run"] = manifest.ids["weights_sha256"]
    for number, member in enumerate(manifest.members, start=1):
        found[f"member {number}"] = member.weights_sha256
    return found
