"""`reproduce`: trains a run again from its manifest and configuration, and compares the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file

from seqloom.core.config import Config
from seqloom.core.errors import ConfigError
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.data.store import Dataset
from seqloom.evaluation.negatives import NEGATIVES
from seqloom.evaluation.ranks_file import read_ranks
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.evaluate.stored import Evaluation, evaluation_files, read_metrics
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import Run, load_run
from seqloom.runs.manifest import RunManifest

TOLERANCE = 1e-3
"""Largest difference of a metric that counts as reproduced, if the bits differ."""


class Change(Config):
    """A version or input that differs between a run and its repetition."""

    what: str
    before: str | None
    now: str | None


class MetricCheck(Config):
    """A metric of a run and of its repetition."""

    evaluation: str
    """`valid` for the metrics of training, otherwise the file that `evaluate` wrote."""
    metric: str
    before: float
    now: float
    difference: float
    """now - before."""


class Reproduction(Config):
    """The result of `reproduce`."""

    run: str
    again: str
    """Folder of the repetition."""
    verdict: Literal["bits", "metrics", "differs"]
    """`bits`: equal weights and equal ranks of all targets; `metrics`: all metrics within the tolerance;
    `differs`: neither."""
    sentence: str
    """The verdict as a sentence."""
    changes: list[Change]
    """Versions and inputs that differ."""
    weights_equal: bool
    largest_weight_difference: float | None
    """None if names or shapes of the weights differ."""
    first_epoch_apart: int | None
    """The first line of the log, from 1, whose loss differs; None if all are equal."""
    ranks_apart: int
    """Targets whose rank differs, over all evaluations."""
    metrics: list[MetricCheck]
    tolerance: float
    seconds_before: float
    seconds_now: float


@public_function()
def reproduce(
    run: str | Path,
    *,
    out: str | Path | None = None,
    dataset: Dataset | str | Path | None = None,
    device: str | None = None,
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
    progress: Progress = AUTO,
) -> Reproduction:
    """Trains the run again into `out` (RUN-again), repeats its evaluations, and compares.

    Uses the data set, configuration and seed of the run, and its device and number of threads if they are
    available. On a CPU with the same versions the bits are equal, unless several processes trained the
    run: the repetition uses one.

    Raises:
        ArtefactError: the run is not complete, its data set is missing or another one, or `out` exists.
        ConfigError: items were added to the run after training.
    """
    first = load_run(run)
    if first.manifest.added_items:
        raise ConfigError(
            f"{run} has items that were added after training; reproduce the run without them"
        )
    data = dataset if isinstance(dataset, Dataset) else first.dataset(dataset, with_cold=True)
    data = data.deciding(first.manifest.mask_seen)
    again = Path(out) if out is not None else first.path.with_name(f"{first.name}-again")
    if again.resolve() == first.path.resolve():
        raise ConfigError(f"--out is the run itself, {again}; give another folder")
    with _use_threads(first.manifest.cost.threads):
        train(
            data,
            first.manifest.system,
            out=again,
            config=_recorded_config(first),
            overwrite=overwrite,
            device=device or first.manifest.cost.device,
            progress=progress,
        )
        second = load_run(again)
        checks, apart = _repeat_evaluations(first, second, data, progress)
    return _judge(first, second, checks, apart, tolerance)


def _recorded_config(run: Run) -> dict[str, Any]:
    """Returns the run's configuration, with the folders of other runs that its manifest records."""
    config = run.system.config.model_dump(mode="json")
    if run.manifest.members:
        config["runs"] = [member.run for member in run.manifest.members]
    ids = config.get("ids")
    if run.manifest.ids and isinstance(ids, dict) and ids.get("run"):
        config["ids"] = {**ids, "run": run.manifest.ids["run"]}
    return config


@contextmanager
def _use_threads(count: int) -> Iterator[None]:
    """Sets the number of threads within the block, since sums are split by it; 0 leaves it unchanged."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _repeat_evaluations(
    first: Run, second: Run, data: Dataset, progress: Progress
) -> tuple[list[MetricCheck], int]:
    """Repeats the stored evaluations; returns the metrics and the number of targets whose rank differs."""
    checks: list[MetricCheck] = []
    apart = 0
    if first.manifest.valid_protocol == second.manifest.valid_protocol:
        checks += _compare_metrics("valid", first.manifest.valid, second.manifest.valid)
    else:
        progress.warn(
            f"{first.name} chose its weights under a former ranking protocol, so its validation metrics are "
            "not compared, and another epoch may have been kept"
        )
    for file in sorted(first.path.glob("metrics*.json")):
        before = read_metrics(file, first.manifest)
        if before.details.outdated:
            progress.note(f"{first.name} is ranked again: {before.details.outdated}")
            before = _evaluate_as(before, first, data, progress)
        details = before.details
        now = _evaluate_as(before, second, data, progress)
        checks += _compare_metrics(file.name, before.metrics, now.metrics)
        tables = [read_ranks(evaluation_files(each.path, details)[1]) for each in (first, second)]
        apart += int((tables[0].ranks != tables[1].ranks).sum())
    return checks, apart


def _evaluate_as(before: Evaluation, run: Run, data: Dataset, progress: Progress) -> Evaluation:
    """Evaluates `run` with the options of an earlier evaluation."""
    details, limits = before.details, before.thresholds
    by_hand = before.thresholds_given
    return evaluate(
        run,
        protocol=details.kind,
        on=details.part,
        mask_seen=details.masked,
        both=False,
        negatives=details.negatives or NEGATIVES,
        tail_item_below=limits.item if by_hand else None,
        tail_user_below=limits.user if by_hand else None,
        dataset=data,
        progress=progress,
    )


def _compare_metrics(
    name: str, before: Mapping[str, float], now: Mapping[str, float]
) -> list[MetricCheck]:
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
    equal, largest = _compare_weights(first, second)
    changes = _find_changes(first.manifest, second.manifest)
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
        differences = "; ".join(f"{c.what}: {c.before} then, {c.now} now" for c in changes)
        sentence += f" What differs: {differences or 'nothing that the manifests record'}."
    return Reproduction(
        run=str(first.path),
        again=str(second.path),
        verdict=verdict,
        sentence=sentence,
        changes=changes,
        weights_equal=equal,
        largest_weight_difference=largest,
        first_epoch_apart=_first_different_epoch(first, second),
        ranks_apart=apart,
        metrics=checks,
        tolerance=tolerance,
        seconds_before=first.manifest.cost.seconds_total,
        seconds_now=second.manifest.cost.seconds_total,
    )


def _compare_weights(first: Run, second: Run) -> tuple[bool, float | None]:
    """Returns whether stored weights and files have equal bits, and the largest difference of a weight."""
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


def _first_different_epoch(first: Run, second: Run) -> int | None:
    """Returns the first line of the logs, from 1, whose loss differs; None if there is none."""
    losses = [[row.get("train", {}) for row in run.log] for run in (first, second)]
    for number, pair in enumerate(zip(*losses, strict=False), start=1):
        if pair[0] != pair[1]:
            return number
    shorter, longer = sorted(map(len, losses))
    return None if shorter == longer else shorter + 1


def _find_changes(before: RunManifest, now: RunManifest) -> list[Change]:
    """Returns the versions, hardware and inputs that differ between two manifests."""
    facts = [_facts(manifest) for manifest in (before, now)]
    names = list(dict.fromkeys([*facts[0], *facts[1]]))
    pairs = [(name, facts[0].get(name), facts[1].get(name)) for name in names]
    return [Change(what=name, before=a, now=b) for name, a, b in pairs if a != b]


def _facts(manifest: RunManifest) -> dict[str, str]:
    facts = {"seqloom": manifest.seqloom, **manifest.versions, "device": manifest.cost.device}
    if manifest.cost.threads:  # an older seqloom did not record them
        facts["threads"] = str(manifest.cost.threads)
    facts["processes"] = str(manifest.cost.processes)
    for text in manifest.texts:
        name = "text embedding" if text is manifest.text else f"text embedding {text['name']!r}"
        for part in ("items", "users"):
            if text.get(part):
                facts[f"{name} of {part}"] = text[part]["file_sha256"]
    if manifest.base:
        facts["language model"] = manifest.base["sha256"]
    if manifest.ids:
        facts["ids of another run"] = manifest.ids["weights_sha256"]
    for number, member in enumerate(manifest.members, start=1):
        facts[f"member {number}"] = member.weights_sha256
    return facts
