"""`train`: trains a system on a prepared data set and writes a run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from seqloom.core.device import peak_rss_mb, resolve_device
from seqloom.core.errors import ConfigError
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.core.protocols import CombinesRuns, ItemVectorSource, TakesItemVectors
from seqloom.core.random import derive_seed
from seqloom.core.records import record_files
from seqloom.core.tensors import tensor_fingerprints
from seqloom.data.store import Dataset
from seqloom.distributed.dtensors import gather_state, is_sharded
from seqloom.distributed.processes import ALONE, Processes
from seqloom.evaluation.metrics import rank_metrics
from seqloom.evaluation.protocol import PROTOCOL_VERSION
from seqloom.evaluation.ranking import rank_targets
from seqloom.pipelines.train.ensemble_members import load_members
from seqloom.pipelines.train.item_vectors import (
    ItemVectors,
    configured_item_vectors,
    read_item_vectors,
)
from seqloom.pipelines.train.start_run import (
    check_earlier_run,
    check_epochs,
    check_may_create,
    check_processes_agree,
    check_resumable,
    create_run,
    is_unstarted,
    manifest_from_first,
    sizes_of,
    update_manifest,
)
from seqloom.pipelines.train.summary import TrainSummary, train_summary
from seqloom.pipelines.train.tracking import check_trackers, live_trackers
from seqloom.runs.folder import check_base
from seqloom.runs.manifest import RunManifest, TrainingCost, write_manifest
from seqloom.runs.run_files import LOG, write_model_files, write_weights
from seqloom.runs.writer_lock import writer_lock
from seqloom.systems.base import Sizes, System, SystemConfig, TrainingData
from seqloom.systems.registry import config_key_hint, system_class
from seqloom.training.checkpoint import Checkpoints, OthersCheckpoints, Position
from seqloom.training.log import NoLog, RunLog
from seqloom.training.loop import Trainer
from seqloom.training.spread_checkpoint import SpreadCheckpoints
from seqloom.training.trackers import Tracker

VALID_METRICS = ("hr@10", "ndcg@10")
Watch = Callable[[int, dict[str, float]], None]
"""Called after each validation with the number of validations of the run so far and the metrics. An
exception that it raises ends the training, which can be resumed."""


@public_function(hint=config_key_hint)
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
    progress: Progress = AUTO,
    watch: Watch | None = None,
    trackers: Sequence[str | Tracker] = (),
    processes: Processes = ALONE,
    fsdp: bool = False,
) -> TrainSummary:
    """Trains `system` on `dataset` and writes the run at `out`.

    Several processes that each make this call train one run; the first writes it, and all of them must
    see both folders. `fsdp` shards its language models over them. See docs/guides/distributed.md.

    `resume` continues an unfinished run from its last checkpoint, with the same bits as without the
    interruption (on a CPU). It leaves a complete run as it is, and starts a run if `out` holds none. There
    is a checkpoint after every epoch, and within an epoch every `checkpoint_every_s` seconds.

    `watch` is called after each validation. `trackers` (`mlflow`, `wandb`, or objects) record parameters,
    the metrics of every epoch and, at the end, the files of the run; TensorBoard files are always written.

    Raises:
        ConfigError: unknown system, bad configuration, nothing to train on, or a tracker is missing.
        ArtefactError: `out` exists (without `resume` or `overwrite`), or it is a run of another data
            set, system or configuration.
        LockedError: another process is writing `out`.
        StorageError: the disk is full; the training can be resumed from its last checkpoint.
        TrainingError: the loss is not finite.
        ProcessError: another process has failed.
    """
    dataset = (dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)).warm
    out = Path(out)
    cls = system_class(system)
    resolved = cls.config_class.build(config)
    check_epochs(resolved)
    check_trackers(trackers)
    _check_fsdp(cls, processes, fsdp=fsdp)
    check_processes_agree(processes, dataset, resolved)
    sizes = sizes_of(dataset, cls, resolved)
    with writer_lock(out, processes, progress):

        def read_unfinished() -> RunManifest | None:
            if out.exists() and resume and not is_unstarted(out):
                return check_resumable(out, dataset, system, resolved)
            check_may_create(out, resume=resume, overwrite=overwrite, progress=progress)
            return None

        manifest = manifest_from_first(processes, read_unfinished)
        if manifest is not None and manifest.status == "complete":
            progress.note(f"{out} is complete; nothing to do")
            return train_summary(out, manifest)
        # The inputs are opened first, so that a faulty one is an error before anything is written.
        check_earlier_run(resolved)
        source = resolved.item_vector_source if isinstance(resolved, TakesItemVectors) else None
        vectors = None if source is None else configured_item_vectors(dataset, source)
        runs = resolved.runs if isinstance(resolved, CombinesRuns) else ()
        members = load_members(dataset, runs, device)
        shared = processes.run_in_turn(lambda: cls.load_shared(resolved, progress))
        if manifest is None:
            manifest = manifest_from_first(
                processes, lambda: create_run(out, dataset, cls, resolved, sizes)
            )
        assert manifest is not None
        data = TrainingData(dataset, progress, processes=processes)
        if source is not None:
            vectors = vectors or _train_item_vectors(
                out / "ids", data, source, resolved.seed, device
            )
            data, manifest = _add_item_vectors(out, data, manifest, vectors)
        if runs:
            data = replace(data, members=members.systems)
            manifest = update_manifest(out, manifest, processes, members=members.references)
        place = resolve_device(device)
        recorded = trackers if processes.rank == 0 else ()
        with live_trackers(out, recorded, progress) as record:
            log = RunLog(out, listen=record) if processes.rank == 0 else NoLog()
            finished = _train(
                out, data, resolved, manifest, place, checkpoint_every_s, watch, log, fsdp=fsdp
            )
        del shared
        return train_summary(out, finished)


def _check_fsdp(cls: type[System[Any]], processes: Processes, *, fsdp: bool) -> None:
    if fsdp and cls.shards is None:
        raise ConfigError(
            f"--fsdp shards a language model over processes, and {cls.name} has none; "
            "leave it out, or train e4srec or idgenrec"
        )
    if fsdp and processes.size == 1:
        raise ConfigError(
            "--fsdp shards a language model over several processes, but only one is running; start several: "
            "torchrun --nproc-per-node N -m seqloom train ..."
        )


def _add_item_vectors(
    out: Path,
    data: TrainingData,
    manifest: RunManifest,
    vectors: ItemVectors,
) -> tuple[TrainingData, RunManifest]:
    """Adds the item vectors of another run to the data and their source to the manifest."""
    sizes = manifest.sizes.model_copy(update={"id_size": vectors.vectors.shape[1]})
    manifest = update_manifest(out, manifest, data.processes, sizes=sizes, ids=vectors.reference)
    return replace(data, ids=vectors.vectors), manifest


def _train_item_vectors(
    out: Path, data: TrainingData, source: ItemVectorSource, seed: int, device: str
) -> ItemVectors:
    """Trains or resumes the run that supplies the item vectors, and reads them."""
    data.progress.note(f"training {source.system} for the item vectors, into {out}")
    train(
        data.dataset,
        source.system,
        out=out,
        config={"seed": seed, **source.config},
        resume=True,
        device=device,
        progress=data.progress,
        processes=data.processes,
    )
    return read_item_vectors(data.dataset, out)


def _train(
    out: Path,
    data: TrainingData,
    config: SystemConfig,
    manifest: RunManifest,
    device: torch.device,
    checkpoint_every_s: float,
    watch: Watch | None,
    log: RunLog,
    *,
    fsdp: bool,
) -> RunManifest:
    started = time.monotonic()
    processes = data.processes
    model = processes.run_in_turn(
        lambda: start_system(manifest.system, config, manifest.sizes, data)
    )
    manifest = _record_start(out, manifest, model, processes)
    if fsdp:
        model.shard(device)
    model.to(device)
    # All processes run a sharded frozen model together, so they cannot score different users.
    ranking = ALONE if fsdp and model.shards == "frozen" else processes
    held_out = data.dataset.held_out("valid")
    if manifest.valid_protocol != PROTOCOL_VERSION and bool(held_out.repeats.any()):
        data.progress.warn(
            f"{out} was begun under a former ranking protocol, in which repeated targets nearly always won; "
            "its earlier validation metrics are too high, so an early epoch may be kept wrongly: train it "
            "again with --overwrite"
        )

    def measure() -> dict[str, float]:
        ranks = rank_targets(
            model.scorer(),
            held_out,
            popularity=data.dataset.popularity[1:],
            max_len=model.max_len,
            device=device,
            processes=ranking,
        )
        return rank_metrics(ranks.ranks, VALID_METRICS)

    def validate() -> dict[str, float]:
        metrics = measure()
        if watch is not None:
            watch(1 + sum("valid" in row for row in trainer.position.history), metrics)
        return metrics

    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    phases = processes.run_in_turn(lambda: model.phases(data))
    if not len(held_out.users) and any(p.validated and p.optimisation.epochs for p in phases):
        _no_validation()
    first = processes.rank == 0
    trainer = Trainer(
        model,
        phases,
        validate if len(held_out.users) else _no_validation,
        config.seed,
        device,
        _checkpoints(out, model, processes),
        log,
        checkpoint_every_s=checkpoint_every_s,
        progress=data.progress,
        processes=processes,
    )
    with processes.report_lost_processes():
        position = trainer.fit(resume=True)
        model.finish()
        model.eval()
        valid = position.best_metrics
        if (_round_weights(model) or not phases) and len(held_out.users):
            valid = measure()
        saved = gather_state(model.saved_state(), keep=first)
    cost = _cost(position, manifest, time.monotonic() - started, device, processes.size)

    def finish() -> RunManifest:
        sha256 = write_weights(out, saved)
        records = manifest.records | record_files(out, [LOG] if (out / LOG).exists() else [])
        done = manifest.model_copy(
            update={
                "status": "complete",
                "parameters": sum(t.numel() for t in model.state_dict().values()),
                "trained_parameters": trained if phases else 0,
                "best_phase": position.best_phase,
                "best_epoch": position.best_epoch,
                "valid": valid,
                "cost": cost,
                "weights_sha256": sha256,
                "trained_sha256": sha256,
                "files": write_model_files(out, model),
                "records": records,
            }
        )
        write_manifest(out, done)
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
        return done

    return cast(RunManifest, manifest_from_first(processes, finish))


def _checkpoints(out: Path, model: System[Any], processes: Processes) -> Checkpoints:
    folder, fixed = out / "checkpoints", model.fixed_entries
    if any(map(is_sharded, model.state_dict().values())):
        return SpreadCheckpoints(folder, fixed, processes)
    return (Checkpoints if processes.rank == 0 else OthersCheckpoints)(folder, fixed)


def _round_weights(model: System[Any]) -> bool:
    """Rounds the weights to the precision of their file; returns whether that can change them.

    The validation metrics of a run then belong to the weights in its folder.
    """
    stored, state = model.saved_state(), model.state_dict()
    if all(stored[name].dtype == state[name].dtype for name in state):
        return False
    model.load_state_dict(stored)
    return True


def start_system(name: str, config: SystemConfig, sizes: Sizes, data: TrainingData) -> System[Any]:
    """Builds a system as it is before the first step; only the configured seed decides random draws."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(config.seed, "initialise"))
        model = system_class(name)(config, sizes)
        model.initialise(data)
    return model


def _record_start(
    out: Path, manifest: RunManifest, model: System[Any], processes: Processes
) -> RunManifest:
    """Records the first weights and the shared language model; a resumed run must have the same model."""
    if manifest.base is not None:
        check_base(out, manifest, model)
        return manifest
    marks = tensor_fingerprints(model.state_dict())
    return update_manifest(out, manifest, processes, base=model.base_reference(), start=marks)


def _no_validation() -> dict[str, float]:
    raise ConfigError(
        "the data set has no validation events, so there is nothing to choose the weights on; prepare it "
        "with --min-user-count 3 or more, or with another --split"
    )


def _cost(
    position: Position, manifest: RunManifest, seconds: float, device: torch.device, processes: int
) -> TrainingCost:
    rows = position.history
    logged = sum(row["seconds"] + row.get("valid_seconds", 0.0) for row in rows)
    return TrainingCost(
        epochs=len(rows),
        seconds_per_epoch=[row["seconds"] for row in rows],
        targets_per_epoch=max((row["targets"] for row in rows), default=0),
        seconds_total=round(max(seconds, logged), 3),
        members_seconds=round(sum(each.seconds_total for each in manifest.members), 3),
        peak_rss_mb=round(peak_rss_mb(), 1),
        device=str(device),
        threads=torch.get_num_threads(),
        processes=processes,
    )
