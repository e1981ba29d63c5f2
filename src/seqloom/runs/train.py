"""`train`: a prepared data set and a system's configuration to a run."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from seqloom.core.config import Config, read_config_file
from seqloom.core.device import peak_rss_mb, resolve_device
from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import atomic_file
from seqloom.core.progress import SILENT, Progress
from seqloom.core.random import derive_seed
from seqloom.core.tensors import tensor_marks
from seqloom.data.store import Dataset
from seqloom.evaluation.metrics import rank_metrics
from seqloom.evaluation.ranking import rank_targets
from seqloom.runs import saw
from seqloom.runs.folder import (
    Cost,
    DatasetReference,
    RunManifest,
    check_base,
    check_fingerprint,
    read_manifest,
    write_manifest,
    write_model_files,
    write_weights,
)
from seqloom.runs.ids import IdTable, given_ids, trained_ids
from seqloom.runs.members import load_members
from seqloom.systems.base import Sizes, System, SystemConfig, TrainingData
from seqloom.systems.registry import system_class
from seqloom.text.store import load_embeddings
from seqloom.training.checkpoint import Checkpoints, Position
from seqloom.training.log import RunLog
from seqloom.training.loop import Trainer

VALID_METRICS = ("hr@10", "ndcg@10")
Watch = Callable[[int, dict[str, float]], None]
"""Told of each validation: how many there were in the run so far, and what was measured. What it
raises ends the training, which can be resumed."""
_LIBRARIES = ("torch", "numpy", "safetensors", "transformers", "sentence-transformers", "peft")


class TrainSummary(Config):
    """What `train` says at the end."""

    run: str
    """The run's folder."""
    system: str
    epochs: int
    seconds_per_epoch: list[float]
    targets_per_epoch: int
    seconds_total: float
    peak_rss_mb: float
    parameters: int
    trained_parameters: int
    best_epoch: int | None
    valid: dict[str, float]
    """Validation metrics of the weights that were kept."""


def train(
    dataset: Dataset | str | Path,
    system: str,
    *,
    out: str | Path,
    config: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    checkpoint_every_s: float = 60.0,
    progress: Progress = SILENT,
    watch: Watch | None = None,
) -> TrainSummary:
    """Train `system` on `dataset` and write the run at `out`.

    With `resume`, an unfinished run goes on from its last checkpoint with the same bits as if it had
    never stopped (on a CPU); a finished one is left as it is; where there is none, one is started.
    There is a checkpoint after every epoch, and within an epoch every `checkpoint_every_s` seconds.

    Raises:
        ConfigError: unknown system, bad configuration, or nothing to train on.
        ArtefactError: `out` exists (without `resume` or `overwrite`), or it is a run of another data
            set, system or configuration.
        TrainingError: the loss is not finite.
    """
    dataset = (dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)).warm
    out = Path(out)
    cls = system_class(system)
    resolved = cls.config_class.build(config)
    sizes = sizes_of(dataset, cls, resolved)
    manifest = _check_same(out, dataset, system, resolved) if out.exists() and resume else None
    if manifest is not None and manifest.status == "complete":
        progress.note(f"{out} is complete; nothing to do")
        return _summary(out, manifest)
    # What is wrong with any of them is said before anything is written or trained.
    ids = given_ids(dataset, getattr(resolved, "ids")) if cls.uses_ids else None  # noqa: B009
    runs = getattr(resolved, "runs") if cls.combines_runs else ()  # noqa: B009
    members = load_members(dataset, runs, device)
    shared = cls.load_shared(resolved, progress)
    if manifest is None:
        _clear(out, overwrite)
        manifest = _start(out, dataset, cls, resolved, sizes)
    data = TrainingData(dataset, progress)
    if cls.uses_ids:
        data, manifest = _with_ids(out, data, resolved, manifest, ids, device)
    if cls.combines_runs:
        data = replace(data, members=members.systems)
        manifest = manifest.model_copy(update={"members": members.references})
        write_manifest(out, manifest)
    place = resolve_device(device)
    finished = _train(out, data, resolved, manifest, place, checkpoint_every_s, watch)
    del shared
    return _summary(out, finished)


def _with_ids(
    out: Path,
    data: TrainingData,
    config: SystemConfig,
    manifest: RunManifest,
    given: IdTable | None,
    device: str,
) -> tuple[TrainingData, RunManifest]:
    """Add the item vectors of another run; it is trained first where none is given."""
    table = given or trained_ids(
        data.dataset,
        getattr(config, "ids"),  # noqa: B009
        out / "ids",
        seed=config.seed,
        device=device,
        progress=data.progress,
    )
    sizes = manifest.sizes.model_copy(update={"id_size": table.vectors.shape[1]})
    manifest = manifest.model_copy(update={"sizes": sizes, "ids": table.reference})
    write_manifest(out, manifest)
    return replace(data, ids=table.vectors), manifest


def _train(
    out: Path,
    data: TrainingData,
    config: SystemConfig,
    manifest: RunManifest,
    device: torch.device,
    checkpoint_every_s: float,
    watch: Watch | None,
) -> RunManifest:
    started = time.monotonic()
    model = start_system(manifest.system, config, manifest.sizes, data)
    manifest = _with_start(out, manifest, model)
    model.to(device)
    held_out = data.dataset.held_out("valid")

    def measure() -> dict[str, float]:
        ranks = rank_targets(model.scorer(), held_out, max_len=model.max_len, device=device)
        return rank_metrics(ranks.ranks, VALID_METRICS)

    def validate() -> dict[str, float]:
        metrics = measure()
        if watch is not None:
            watch(1 + sum("valid" in row for row in trainer.position.history), metrics)
        return metrics

    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    phases = model.phases(data)
    trainer = Trainer(
        model,
        phases,
        validate if len(held_out.users) else _no_validation,
        config.seed,
        device,
        Checkpoints(out / "checkpoints", model.fixed_entries),
        RunLog(out),
        checkpoint_every_s=checkpoint_every_s,
        progress=data.progress,
    )
    position = trainer.fit(resume=True)
    model.finish()
    model.eval()
    valid = position.best_metrics
    if (_round(model) or not phases) and len(held_out.users):
        valid = measure()
    done = manifest.model_copy(
        update={
            "status": "complete",
            "parameters": sum(t.numel() for t in model.state_dict().values()),
            "trained_parameters": trained if phases else 0,
            "best_epoch": position.best_epoch,
            "valid": valid,
            "cost": _cost(position, manifest, time.monotonic() - started, device),
            "weights_sha256": write_weights(out, model),
            "files": write_model_files(out, model),
        }
    )
    write_manifest(out, done)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return done


def _round(model: System[Any]) -> bool:
    """Give the model the precision in which it is stored; whether that changes anything.

    The validation metrics of a run are then those of the weights in its folder.
    """
    stored, state = model.saved_state(), model.state_dict()
    if all(stored[name].dtype == state[name].dtype for name in state):
        return False
    model.load_state_dict(stored)
    return True


def start_system(name: str, config: SystemConfig, sizes: Sizes, data: TrainingData) -> System[Any]:
    """A system as it is before the first step; what is drawn depends on the configured seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(config.seed, "initialise"))
        model = system_class(name)(config, sizes)
        model.initialise(data)
    return model


def _with_start(out: Path, manifest: RunManifest, model: System[Any]) -> RunManifest:
    """Note how the run starts and over which shared language model; a resumed run must have the same."""
    if manifest.base is not None:
        check_base(out, manifest, model)
        return manifest
    noted = {"base": model.base_reference(), "start": tensor_marks(model.state_dict())}
    manifest = manifest.model_copy(update=noted)
    write_manifest(out, manifest)
    return manifest


def sizes_of(dataset: Dataset, cls: type[System[Any]], config: SystemConfig) -> Sizes:
    """The sizes that come from the data: items, and the width of the text where it is used."""
    if cls.uses_text:
        text = load_embeddings(dataset, getattr(config, "text", None))
        return Sizes(num_items=dataset.num_items, text_size=text.width)
    return Sizes(num_items=dataset.num_items)


def _start(
    out: Path, dataset: Dataset, cls: type[System[Any]], config: SystemConfig, sizes: Sizes
) -> RunManifest:
    """Write what is known before training; the manifest comes last and says `training`."""
    from seqloom import __version__

    text = None
    if cls.uses_text:
        found = load_embeddings(dataset, getattr(config, "text", None))
        text = {"name": found.name, **found.manifest.model_dump(mode="json")}
    manifest = RunManifest(
        seqloom=__version__,
        system=cls.name,
        sizes=sizes,
        dataset=DatasetReference(
            path=str(dataset.path.resolve()),
            fingerprint=dataset.fingerprint,
            split=dataset.split,
            training=dataset.training_hash,
        ),
        text=text,
        saw=dict(saw.COMBINED if cls.combines_runs else saw.TRAINED),
        versions=_versions(),
    )
    out.mkdir(parents=True)
    with atomic_file(out / "config.yaml") as work:
        work.write_text(config.to_yaml(), encoding="utf-8")
    with atomic_file(out / "items.parquet") as work:
        pq.write_table(dataset.items, work)
    with atomic_file(out / "popularity.safetensors") as work:
        save_file({"counts": dataset.popularity[1:].contiguous()}, work)
    write_manifest(out, manifest)
    return manifest


def _clear(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise ArtefactError(
            f"{out} already exists; choose another name, --resume it, or --overwrite it"
        )
    read_manifest(out)  # never remove a folder that is no run
    shutil.rmtree(out)


def _check_same(out: Path, dataset: Dataset, system: str, config: SystemConfig) -> RunManifest:
    manifest = read_manifest(out)
    check_fingerprint(manifest, dataset)
    if manifest.system != system:
        raise ArtefactError(f"{out} is a run of {manifest.system!r}, not of {system!r}")
    stored = type(config).build(read_config_file(out / "config.yaml"))
    if stored != config:
        before, after = stored.model_dump(), config.model_dump()
        changed = [
            f"{k}: {before[k]!r} there, {after[k]!r} now" for k in before if before[k] != after[k]
        ]
        raise ArtefactError(
            f"{out} was started with another configuration ({'; '.join(changed)}); resume with the "
            "same one or choose another folder"
        )
    return manifest


def _no_validation() -> dict[str, float]:
    raise ConfigError(
        "the data set has no validation events, so there is nothing to choose the weights on; "
        "prepare it with histories of at least three events or another split"
    )


def _cost(position: Position, manifest: RunManifest, seconds: float, device: torch.device) -> Cost:
    rows = position.history
    logged = sum(row["seconds"] + row.get("valid_seconds", 0.0) for row in rows)
    return Cost(
        epochs=len(rows),
        seconds_per_epoch=[row["seconds"] for row in rows],
        targets_per_epoch=rows[-1]["targets"] if rows else 0,
        seconds_total=round(max(seconds, logged), 3),
        members_seconds=round(sum(each.seconds_total for each in manifest.members), 3),
        peak_rss_mb=round(peak_rss_mb(), 1),
        device=str(device),
        threads=torch.get_num_threads(),
    )


def _summary(out: Path, manifest: RunManifest) -> TrainSummary:
    cost = manifest.cost
    return TrainSummary(
        run=str(out),
        system=manifest.system,
        epochs=cost.epochs,
        seconds_per_epoch=cost.seconds_per_epoch,
        targets_per_epoch=cost.targets_per_epoch,
        seconds_total=cost.seconds_total,
        peak_rss_mb=cost.peak_rss_mb,
        parameters=manifest.parameters,
        trained_parameters=manifest.trained_parameters,
        best_epoch=manifest.best_epoch,
        valid=manifest.valid,
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
