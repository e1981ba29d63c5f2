"""A run before its first step: its folder is made, or the one that was begun is gone on with."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from seqloom.core.config import read_config_file
from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import atomic_file
from seqloom.core.processes import Processes
from seqloom.core.tensors import write_tensors
from seqloom.data.store import Dataset
from seqloom.evaluation.protocol import PROTOCOL_VERSION
from seqloom.runs import saw
from seqloom.runs.folder import (
    DatasetReference,
    RunManifest,
    check_fingerprint,
    read_manifest,
    write_manifest,
)
from seqloom.systems.base import Sizes, System, SystemConfig
from seqloom.text.store import load_embeddings

_LIBRARIES = ("torch", "numpy", "safetensors", "transformers", "sentence-transformers", "peft")


def once(processes: Processes, act: Callable[[], RunManifest | None]) -> RunManifest | None:
    """What `act` does and gives in the first process, for all."""

    def told() -> str:
        manifest = act()
        return "" if manifest is None else manifest.model_dump_json()

    if processes.size == 1:
        return act()
    text = processes.once(told)
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
    *,
    overwrite: bool,
) -> RunManifest:
    """Write what is known before training; the manifest comes last and says `training`."""
    from seqloom import __version__

    _clear(out, overwrite)
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
        valid_protocol=PROTOCOL_VERSION,
    )
    out.mkdir(parents=True)
    with atomic_file(out / "config.yaml") as work:
        work.write_text(config.to_yaml(), encoding="utf-8")
    with atomic_file(out / "items.parquet") as work:
        pq.write_table(dataset.items, work)
    with atomic_file(out / "popularity.safetensors") as work:
        write_tensors(work, {"counts": dataset.popularity[1:]})
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


def check_alike(processes: Processes, dataset: Dataset, config: SystemConfig) -> None:
    """Make sure that all processes train the same thing: else they would wait for each other for ever.

    Raises:
        ConfigError: this one was given another data set or configuration than the first.
    """
    own = f"data set {dataset.fingerprint[:12]} with\n{config.to_yaml()}"
    first = processes.once(lambda: own)
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


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
