"""Starts a run: creates its folder, or checks that an unfinished one can be resumed."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow.parquet as pq

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import atomic_folder
from seqloom.core.number_format import format_percent
from seqloom.core.progress import Progress
from seqloom.core.protocols import ContinuesRun
from seqloom.core.records import record_files
from seqloom.core.tensors import write_tensors
from seqloom.data.repeats import REPEATS_FROM
from seqloom.data.store import Dataset
from seqloom.distributed.processes import Processes
from seqloom.evaluation.protocol import PROTOCOL_VERSION
from seqloom.runs.lineage import DatasetReference, lineage_of
from seqloom.runs.manifest import (
    RunManifest,
    check_fingerprint,
    read_manifest,
    write_manifest,
)
from seqloom.runs.provenance import COMBINED, TRAINED
from seqloom.runs.run_files import (
    CONFIG,
    ITEMS,
    POPULARITY,
    check_model_files,
    check_weights,
    checked_config,
    config_digest,
    read_stored_config,
)
from seqloom.systems.base import Sizes, System
from seqloom.systems.base_config import SequenceConfig, SystemConfig
from seqloom.systems.registry import system_class
from seqloom.text.store import load_embeddings
from seqloom.text.store import read_manifest as read_text_manifest

_BEFORE_MANIFEST = {CONFIG, ITEMS, POPULARITY}
_LIBRARIES = ("torch", "numpy", "safetensors", "transformers", "sentence-transformers", "peft")


@runtime_checkable
class _CountsEpochs(Protocol):
    """A configuration with a number of epochs."""

    @property
    def epochs(self) -> int:
        """Passes over the training part."""


def manifest_from_first(
    processes: Processes, act: Callable[[], RunManifest | None]
) -> RunManifest | None:
    """Calls `act` in the first process and returns its manifest in all of them."""

    def act_as_text() -> str:
        manifest = act()
        return "" if manifest is None else manifest.model_dump_json()

    if processes.size == 1:
        return act()
    text = processes.run_on_first(act_as_text)
    return RunManifest.model_validate_json(text) if text else None


def update_manifest(
    out: Path, manifest: RunManifest, processes: Processes, **update: Any
) -> RunManifest:
    """Returns the manifest with these fields changed; the first process also writes it to the run."""
    manifest = manifest.model_copy(update=update)
    if processes.rank == 0:
        write_manifest(out, manifest)
    return manifest


def sizes_of(dataset: Dataset, config: SystemConfig) -> Sizes:
    """Returns what the data decide: the number of items, the width of the text and who made it."""
    texts = [load_embeddings(dataset, name) for name in config.embeddings]
    if not texts:
        return Sizes(num_items=dataset.num_items)
    return Sizes(
        num_items=dataset.num_items,
        text_size=texts[0].width,
        text_by_language_model=any(text.manifest.by_language_model for text in texts),
    )


def earlier_run(config: SystemConfig) -> Path | None:
    """Returns the run whose weights training continues; None if it starts without one."""
    if not isinstance(config, ContinuesRun) or config.start_from is None:
        return None
    return Path(config.start_from)


def check_earlier_run(config: SystemConfig) -> None:
    """Checks that the run whose weights training continues is complete and unchanged.

    Raises:
        ArtefactError: it is missing, unfinished, damaged or changed.
    """
    path = earlier_run(config)
    if path is None:
        return
    manifest = read_manifest(path)
    if manifest.status != "complete":
        raise ArtefactError(f"{path} is not finished, so it holds no weights to start from")
    check_weights(path, manifest.weights_sha256)
    check_model_files(path, manifest.files)


def check_epochs(config: SystemConfig) -> None:
    """Refuses to train no epoch, unless the run continues another one and keeps its weights.

    Raises:
        ConfigError: nothing would be trained.
    """
    if isinstance(config, _CountsEpochs) and config.epochs == 0 and earlier_run(config) is None:
        raise ConfigError(
            "epochs: found 0: nothing would be trained, and the run would rank by its first random weights; "
            "give 1 or more"
        )


def suggest_repeats(dataset: Dataset, config: SystemConfig, progress: Progress) -> None:
    """Notes that a term for repeats can be learned, where the data repeats and the configuration has none."""
    if not isinstance(config, SequenceConfig) or dataset.masks_seen:
        return
    learnable = config.repeat == "none" and config.loss.kind == "softmax"
    if learnable and dataset.repeat_share >= REPEATS_FROM:
        progress.note(
            f"{format_percent(dataset.repeat_share)} of the training events repeat an item of their user; "
            "repeat=learned trains a term for that"
        )


def create_run(
    out: Path,
    dataset: Dataset,
    cls: type[System[Any]],
    config: SystemConfig,
    sizes: Sizes,
) -> RunManifest:
    """Writes what is known before training; the folder replaces what `check_may_create` accepted."""
    from seqloom._version import __version__

    read = [read_text_manifest(dataset, name) for name in config.embeddings]
    texts = [manifest.model_dump(mode="json") for manifest in read]
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
        text=texts[0] if texts else None,
        further_texts=texts[1:],
        lineage=lineage_of(dataset, earlier_run(config)),
        saw=dict(COMBINED if cls.combines_runs else TRAINED),
        versions=_versions(),
        valid_protocol=PROTOCOL_VERSION,
        mask_seen=dataset.masks_seen,
    )
    with atomic_folder(out, overwrite=out.exists()) as work:
        (work / CONFIG).write_text(config.to_yaml(), encoding="utf-8")
        pq.write_table(dataset.items, work / ITEMS)
        write_tensors(work / POPULARITY, {"counts": dataset.popularity[1:]})
        manifest = manifest.model_copy(
            update={
                "config_sha256": config_digest(read_stored_config(work), cls.location_keys),
                "records": record_files(work, (ITEMS, POPULARITY)),
            }
        )
        write_manifest(work, manifest)
    return manifest


def check_may_create(out: Path, *, resume: bool, overwrite: bool, progress: Progress) -> None:
    """Checks that a run may be created at `out`. Removes nothing.

    Raises:
        ArtefactError: `out` holds something that may not be replaced.
    """
    if not out.exists():
        if resume:
            progress.note(
                f"{out} does not exist: there is nothing to resume, training starts from the beginning"
            )
        return
    if is_unstarted(out):
        if not (resume or overwrite):
            raise ArtefactError(
                f"{out} already exists, without a run in it: a training was stopped before it began; "
                "--resume or --overwrite it, or choose another name"
            )
        progress.note(f"{out} holds no run yet; training starts from the beginning")
        return
    if not overwrite:
        raise ArtefactError(
            f"{out} already exists; choose another name, --resume it, or --overwrite it"
        )
    if not _is_run(out):
        raise ArtefactError(
            f"{out} is not a run, so it is not overwritten; choose another name, or delete it yourself"
        )


def is_unstarted(out: Path) -> bool:
    """Returns whether a folder is empty, or holds only what is written before a run's manifest."""
    names = {file.name for file in out.iterdir()} if out.is_dir() else {"file"}
    return names <= _BEFORE_MANIFEST


def _is_run(out: Path) -> bool:
    """Returns whether a folder is a run, complete or damaged."""
    try:
        read_manifest(out)
    except ArtefactError:
        return {"manifest.json", CONFIG, ITEMS} <= {file.name for file in out.iterdir()}
    return True


def check_processes_agree(processes: Processes, dataset: Dataset, config: SystemConfig) -> None:
    """Checks that all processes train the same system on the same data; otherwise they would deadlock.

    Raises:
        ConfigError: this process has another data set or configuration than the first.
    """
    own = f"data set {dataset.fingerprint[:12]} with\n{config.to_yaml()}"
    first = processes.run_on_first(lambda: own)
    if own != first:
        raise ConfigError(
            f"process {processes.rank} was started on {own}but the first process on {first}; give all of "
            "them the same command and the same data"
        )


def check_resumable(out: Path, dataset: Dataset, system: str, config: SystemConfig) -> RunManifest:
    """Returns the manifest of the run at `out`, which must have the same data set and configuration.

    Raises:
        ArtefactError: it is a run of another data set, system or configuration.
    """
    manifest = read_manifest(out)
    check_fingerprint(manifest, dataset)
    if manifest.system != system:
        raise ArtefactError(f"{out} is a run of {manifest.system!r}, not of {system!r}")
    stored = checked_config(out, system_class(system), manifest.config_sha256)
    if stored != config:
        before, after = _dotted(stored.model_dump()), _dotted(config.model_dump())
        changed = [
            f"{key}: {before.get(key)!r} there, {after.get(key)!r} now"
            for key in {**before, **after}
            if before.get(key) != after.get(key)
        ]
        raise ArtefactError(
            f"{out} was started with another configuration ({'; '.join(changed)}); resume with the "
            "same one or choose another folder"
        )
    return manifest


def _dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested values under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _dotted(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
