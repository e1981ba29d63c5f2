"""A run before its first step: its folder is made, or the one that was begun is gone on with."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import atomic_folder
from seqloom.core.progress import Progress
from seqloom.core.records import record_files
from seqloom.core.tensors import write_tensors
from seqloom.data.store import Dataset
from seqloom.distributed.processes import Processes
from seqloom.evaluation.protocol import PROTOCOL_VERSION
from seqloom.runs import provenance as saw
from seqloom.runs.folder import (
    RunManifest,
    check_fingerprint,
    read_manifest,
    write_manifest,
)
from seqloom.runs.lineage import DatasetReference, lineage_of
from seqloom.runs.run_files import (
    CONFIG,
    ITEMS,
    POPULARITY,
    checked_config,
    config_digest,
    read_stored_config,
)
from seqloom.systems.base import Sizes, System, SystemConfig
from seqloom.systems.registry import system_class
from seqloom.text.store import load_embeddings

_BEFORE_MANIFEST = {CONFIG, ITEMS, POPULARITY}
_LIBRARIES = ("torch", "numpy", "safetensors", "transformers", "sentence-transformers", "peft")


def once(processes: Processes, act: Callable[[], RunManifest | None]) -> RunManifest | None:
    """What `act` does and gives in the first process, for all."""

    def told() -> str:
        manifest = act()
        return "" if manifest is None else manifest.model_dump_json()

    if processes.size == 1:
        return act()
    text = processes.run_on_first(told)
    return RunManifest.model_validate_json(text) if text else None


def noted(out: Path, manifest: RunManifest, processes: Processes, **update: Any) -> RunManifest:
    """The manifest with more in it, in the run too."""
    manifest = manifest.model_copy(update=update)
    if processes.rank == 0:
        write_manifest(out, manifest)
    return manifest


def sizes_of(dataset: Dataset, cls: type[System[Any]], config: SystemConfig) -> Sizes:
    """The sizes that come from the data: items, and the width of the text where it is used."""
    if cls.uses_text:
        text = load_embeddings(dataset, getattr(config, "text", None))
        return Sizes(num_items=dataset.num_items, text_size=text.width)
    return Sizes(num_items=dataset.num_items)


def begin(
    out: Path,
    dataset: Dataset,
    cls: type[System[Any]],
    config: SystemConfig,
    sizes: Sizes,
) -> RunManifest:
    """Write what is known before training, as one folder that replaces what `may_begin` allowed to."""
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
        lineage=lineage_of(dataset, getattr(config, "start_from", None)),
        saw=dict(saw.COMBINED if cls.combines_runs else saw.TRAINED),
        versions=_versions(),
        valid_protocol=PROTOCOL_VERSION,
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


def may_begin(out: Path, *, resume: bool, overwrite: bool, progress: Progress) -> None:
    """Make sure that a run may be begun at `out`; nothing is removed yet.

    Raises:
        ArtefactError: something is there that may not be replaced.
    """
    if not out.exists():
        if resume:
            progress.note(f"{out} does not exist: there is nothing to resume, training starts anew")
        return
    if holds_no_run_yet(out):
        if not (resume or overwrite):
            raise ArtefactError(
                f"{out} already exists, without a run in it: a training was stopped before it began; "
                "--resume or --overwrite it, or choose another name"
            )
        progress.note(f"{out} holds no run yet; training starts anew")
        return
    if not overwrite:
        raise ArtefactError(
            f"{out} already exists; choose another name, --resume it, or --overwrite it"
        )
    if not _is_run(out):
        raise ArtefactError(
            f"{out} is no run, so it is not overwritten; choose another name, or delete it yourself"
        )


def holds_no_run_yet(out: Path) -> bool:
    """Whether a folder is empty, or holds only what is written before a run's manifest."""
    names = {file.name for file in out.iterdir()} if out.is_dir() else {"file"}
    return names <= _BEFORE_MANIFEST


def _is_run(out: Path) -> bool:
    """Whether a folder is a run, or a damaged one: never another folder."""
    try:
        read_manifest(out)
    except ArtefactError:
        return {"manifest.json", CONFIG, ITEMS} <= {file.name for file in out.iterdir()}
    return True


def check_alike(processes: Processes, dataset: Dataset, config: SystemConfig) -> None:
    """Make sure that all processes train the same thing: else they would wait for each other for ever.

    Raises:
        ConfigError: this one was given another data set or configuration than the first.
    """
    own = f"data set {dataset.fingerprint[:12]} with\n{config.to_yaml()}"
    first = processes.run_on_first(lambda: own)
    if own != first:
        raise ConfigError(
            f"process {processes.rank} was started on {own}but the first process on {first}; give all of "
            "them the same command and the same data"
        )


def check_same(out: Path, dataset: Dataset, system: str, config: SystemConfig) -> RunManifest:
    manifest = read_manifest(out)
    check_fingerprint(manifest, dataset)
    if manifest.system != system:
        raise ArtefactError(f"{out} is a run of {manifest.system!r}, not of {system!r}")
    stored = checked_config(out, system_class(system), manifest.config_sha256)
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


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
