"""`train`: trains a system on a prepared data set and writes a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seqloom.core.errors import ConfigError
from seqloom.core.interactive import AUTO
from seqloom.core.keywords import public_function
from seqloom.core.progress import Progress
from seqloom.core.protocols import CombinesRuns, ItemVectorSource, TakesItemVectors
from seqloom.data.store import Dataset
from seqloom.distributed.processes import ALONE, Processes
from seqloom.pipelines.train.ensemble_members import Members, load_members
from seqloom.pipelines.train.fit_run import Watch, fit_run
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
    suggest_repeats,
    update_manifest,
)
from seqloom.pipelines.train.summary import TrainSummary, train_summary
from seqloom.pipelines.train.tracking import check_trackers, live_trackers
from seqloom.runs.manifest import RunManifest
from seqloom.runs.writer_lock import writer_lock
from seqloom.systems.base import System, TrainingData
from seqloom.systems.base_config import SystemConfig
from seqloom.systems.registry import config_key_hint, system_class
from seqloom.training.log import NoLog, RunLog
from seqloom.training.trackers import Tracker


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
    check_trackers(trackers)
    _check_options(cls, dataset, resolved, processes, fsdp=fsdp)
    sizes = sizes_of(dataset, resolved)
    with writer_lock(out, processes, progress):
        manifest = _read_unfinished(
            out, dataset, resolved, system, processes, progress, resume=resume, overwrite=overwrite
        )
        if manifest is not None and manifest.status == "complete":
            progress.note(f"{out} is complete; nothing to do")
            return train_summary(out, manifest)
        # The inputs are opened first, so that a faulty one is an error before anything is written.
        inputs = _open_inputs(dataset, resolved, device)
        shared = processes.run_in_turn(lambda: cls.load_shared(resolved, progress))
        manifest = manifest or manifest_from_first(
            processes, lambda: create_run(out, dataset, cls, resolved, sizes)
        )
        assert manifest is not None
        # A run that was begun earlier keeps its decision on seen items.
        decided = dataset.deciding(manifest.mask_seen)
        if processes.rank == 0:
            suggest_repeats(decided, resolved, progress)
        data = TrainingData(decided, progress, processes=processes)
        data, manifest = _add_inputs(out, data, manifest, inputs, resolved.seed, device)
        recorded = trackers if processes.rank == 0 else ()
        with live_trackers(out, recorded, progress) as record:
            log = RunLog(out, listen=record) if processes.rank == 0 else NoLog()
            manifest = fit_run(
                out, data, resolved, manifest, device, checkpoint_every_s, watch, log, fsdp=fsdp
            )
        del shared
        return train_summary(out, manifest)


def _read_unfinished(
    out: Path,
    dataset: Dataset,
    config: SystemConfig,
    system: str,
    processes: Processes,
    progress: Progress,
    *,
    resume: bool,
    overwrite: bool,
) -> RunManifest | None:
    """Returns the manifest of the run to resume, None for a new run; raises if neither is possible."""

    def read() -> RunManifest | None:
        if out.exists() and resume and not is_unstarted(out):
            return check_resumable(out, dataset, system, config)
        check_may_create(out, resume=resume, overwrite=overwrite, progress=progress)
        return None

    return manifest_from_first(processes, read)


def _check_options(
    cls: type[System[Any]],
    dataset: Dataset,
    config: SystemConfig,
    processes: Processes,
    *,
    fsdp: bool,
) -> None:
    check_epochs(config)
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
    check_processes_agree(processes, dataset, config)


@dataclass(frozen=True)
class _Inputs:
    """The runs that a training reads."""

    source: ItemVectorSource | None
    """Where item vectors come from; None if the system takes none."""
    vectors: ItemVectors | None
    """The item vectors; None if a run must be trained for them first."""
    members: Members | None
    """The members of an ensemble."""


def _open_inputs(dataset: Dataset, config: SystemConfig, device: str) -> _Inputs:
    """Opens the runs that the configuration names."""
    check_earlier_run(config)
    source = config.item_vector_source if isinstance(config, TakesItemVectors) else None
    vectors = None if source is None else configured_item_vectors(dataset, source)
    runs = config.runs if isinstance(config, CombinesRuns) else ()
    return _Inputs(source, vectors, load_members(dataset, runs, device) if runs else None)


def _add_inputs(
    out: Path, data: TrainingData, manifest: RunManifest, inputs: _Inputs, seed: int, device: str
) -> tuple[TrainingData, RunManifest]:
    """Adds item vectors and members to the data, and their references to the manifest."""
    if inputs.source is not None:
        vectors = inputs.vectors or _train_item_vectors(
            out / "ids", data, inputs.source, seed, device
        )
        sizes = manifest.sizes.model_copy(update={"id_size": vectors.vectors.shape[1]})
        manifest = update_manifest(
            out, manifest, data.processes, sizes=sizes, ids=vectors.reference
        )
        data = replace(data, ids=vectors.vectors, giver=vectors.giver)
    if inputs.members is not None:
        data = replace(data, members=inputs.members.systems)
        references = inputs.members.references
        manifest = update_manifest(out, manifest, data.processes, members=references)
    return data, manifest


def _train_item_vectors(
    out: Path, data: TrainingData, source: ItemVectorSource, seed: int, device: str
) -> ItemVectors:
    """Trains or resumes the run that supplies the item vectors, and reads them."""
    data.progress.note(f"training {source.system} for the item vectors, into {out}")
    begun = data.processes.run_on_first(lambda: "begun" if out.exists() else "")
    train(
        data.dataset,
        source.system,
        out=out,
        config={"seed": seed, **source.config},
        resume=bool(begun),
        device=device,
        progress=data.progress,
        processes=data.processes,
    )
    return read_item_vectors(data.dataset, out)
