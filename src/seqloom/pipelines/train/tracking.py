"""Records trainings in trackers, while they run and afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from seqloom.core.config import Config
from seqloom.core.errors import ArtefactError, SeqloomError
from seqloom.core.files import read_json, write_json
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.pipelines.evaluate.stored import read_metrics
from seqloom.runs.manifest import RunManifest, read_manifest
from seqloom.runs.run_files import read_training_log
from seqloom.training.trackers import Subject, Tracker, build_tracker, flat_parameters

KEYS = "trackers.json"
"""File of a run with the keys of its records: tracker to key."""
_NOT_STORED = {"checkpoints", "tensorboard", KEYS}


class TrackedRun(Config):
    """A run in a tracker."""

    run: str
    tracker: str
    key: str
    """The tracker's identifier of the record."""
    files: list[str]
    """Stored artefacts."""
    metrics: dict[str, float]
    """Recorded results of evaluations."""


@public_function()
def track(
    run: str | Path,
    tracker: str | Tracker,
    *,
    report: str | Path | None = None,
    progress: Progress = AUTO,
) -> TrackedRun:
    """Records a complete run in a tracker: parameters, metrics by epoch, evaluations, report and run.

    A run that was trained with this tracker continues its record, which then gets what it lacks:
    evaluations and files.

    Args:
        run: the folder of the run.
        tracker: `mlflow`, `wandb`, or an object with the methods of `Tracker`.
        report: a report of `compare`, stored as an artefact.

    Raises:
        ConfigError: the tracker is not installed or cannot be reached.
        ArtefactError: the run is unfinished, or the report does not exist.
    """
    path = Path(run)
    manifest = read_manifest(path)
    if manifest.status != "complete":
        raise ArtefactError(f"{path} is not finished; finish the training first")
    if report is not None and not Path(report).is_file():
        raise ArtefactError(f"there is no report {report}")
    built = build_tracker(tracker) if isinstance(tracker, str) else tracker
    keys = _keys(path)
    key = built.open(_subject(path, manifest), keys.get(built.name))
    complete = False
    try:
        if built.name not in keys:
            for step, row in enumerate(read_training_log(path, manifest.records), start=1):
                built.log(step, epoch_metrics(row))
        metrics = _evaluations(path, manifest, progress)
        built.log(max(manifest.cost.epochs, 1), metrics)
        files = stored_files(path)
        if report is not None:
            files.append((Path(report), f"report/{Path(report).name}"))
        with progress.task(f"store in {built.name}", len(files), "files") as task:
            built.add_files(files)
            task.advance(len(files))
        complete = True
    finally:
        built.close(complete=complete)
    write_json(path / KEYS, {**keys, built.name: key})
    return TrackedRun(
        run=str(path),
        tracker=built.name,
        key=key,
        files=[name for _, name in files],
        metrics=metrics,
    )


@contextmanager
def live_trackers(
    out: Path, trackers: Sequence[str | Tracker], progress: Progress
) -> Iterator[Callable[[int, Mapping[str, Any]], None]]:
    """Yields a function that records the row of an epoch, by its number in the run, in all trackers.

    A tracker that fails during the training is reported and left out; the training goes on.

    Raises:
        ConfigError: a tracker is not installed or cannot be reached at the start.
    """
    keys = _keys(out)
    running: list[Tracker] = []
    complete = False

    def log(step: int, row: Mapping[str, Any]) -> None:
        for tracker in list(running):
            try:
                tracker.log(step, epoch_metrics(row))
            except Exception as error:  # whatever a tracker's library raises
                running.remove(tracker)
                progress.warn(
                    f"{tracker.name} is left out from here on ({error}); `seqloom track` records "
                    "the complete run later"
                )

    try:
        for each in trackers:
            tracker = build_tracker(each) if isinstance(each, str) else each
            subject = _subject(out, read_manifest(out))
            keys[tracker.name] = tracker.open(subject, keys.get(tracker.name))
            running.append(tracker)
        if running:
            write_json(out / KEYS, keys)
        yield log
        complete = True
        for tracker in running:
            _store(tracker, out, progress)
    finally:
        for tracker in running:
            try:
                tracker.close(complete=complete)
            except Exception as error:  # whatever a tracker's library raises
                progress.warn(f"{tracker.name} did not close its record: {error}")


def _store(tracker: Tracker, run: Path, progress: Progress) -> None:
    """Stores the files of a complete run; a failure is reported."""
    try:
        manifest = read_manifest(run)
        best = {f"best_valid/{name}": value for name, value in manifest.valid.items()}
        tracker.log(max(manifest.cost.epochs, 1), best)
        tracker.add_files(stored_files(run))
    except Exception as error:  # whatever a tracker's library raises
        progress.warn(
            f"{tracker.name} did not store the run ({error}); `seqloom track` tries again"
        )


def check_trackers(trackers: Sequence[str | Tracker]) -> None:
    """Checks that the libraries of trackers are installed. Raises `ConfigError`."""
    for each in trackers:
        if isinstance(each, str):
            build_tracker(each)


def epoch_metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of one epoch: `train/loss`, `valid/ndcg@10`, `seconds`."""
    numbers = {
        f"{section}/{name}": float(value)
        for section in ("train", "valid")
        for name, value in (row.get(section) or {}).items()
        if isinstance(value, int | float)
    }
    return numbers | {"seconds": float(row.get("seconds", 0.0))}


def stored_files(run: Path) -> list[tuple[Path, str]]:
    """Returns the files of a run that are stored as artefacts, with their names."""
    files = (file for file in sorted(run.rglob("*")) if file.is_file())
    named = ((file, file.relative_to(run)) for file in files)
    return [
        (file, f"run/{name.as_posix()}")
        for file, name in named
        if name.parts[0] not in _NOT_STORED and not name.parts[0].startswith(".")
    ]


def _keys(run: Path) -> dict[str, str]:
    if not (run / KEYS).exists():
        return {}
    found = read_json(run / KEYS, "keys of trackers")
    if not isinstance(found, dict):
        raise ArtefactError(f"{run / KEYS} holds no keys; delete it to begin new records")
    return {str(name): str(key) for name, key in found.items()}


def _subject(run: Path, manifest: RunManifest) -> Subject:
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) or {}
    tags = {
        "system": manifest.system,
        "dataset": Path(manifest.dataset.path).name,
        "fingerprint": manifest.dataset.fingerprint[:12],
        "split": manifest.dataset.split,
        "seqloom": manifest.seqloom,
    }
    return Subject(run.resolve().name, flat_parameters(config), tags)


def _evaluations(run: Path, manifest: RunManifest, progress: Progress) -> dict[str, float]:
    """Returns the metrics of all stored evaluations, by part and protocol."""
    metrics: dict[str, float] = {f"best_valid/{k}": v for k, v in manifest.valid.items()}
    for file in sorted(run.glob("metrics*.json")):
        try:
            evaluation = read_metrics(file, manifest)
        except SeqloomError as error:
            progress.warn(f"an evaluation is left out: {error}")
            continue
        prefix = file.stem.replace("metrics", "test", 1).replace("test-valid", "valid")
        metrics |= {f"{prefix}/{name}": value for name, value in evaluation.metrics.items()}
        for group, found in evaluation.groups.items():
            for name, value in (found["metrics"] or {}).items():
                metrics[f"{prefix}/{group}/{name}"] = value
    return metrics
