"""Runs for others: a copy without paths and user ids, with a model card; checks of a fetched one."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from seqloom.core.errors import ArtefactError
from seqloom.core.files import read_json, write_json
from seqloom.runs.manifest import RunManifest, read_manifest, write_manifest
from seqloom.runs.model_card import CARD, model_card
from seqloom.runs.run_files import CONFIG, ITEMS, LOG, POPULARITY, WEIGHTS
from seqloom.runs.trained_run import TrainedRun
from seqloom.systems.base import MODEL_FOLDER

_COPIED = (CONFIG, ITEMS, LOG, POPULARITY, WEIGHTS)


def write_published(run: TrainedRun, folder: Path, *, licence: str | None) -> None:
    """Writes what is published of a run: all that it needs to load, its evaluations and a model card.

    Folders of this machine become their last names. Ranks are left out, because they hold user ids.
    """
    for name in _COPIED:
        if (run.path / name).exists():
            shutil.copyfile(run.path / name, folder / name)
    if (run.path / MODEL_FOLDER).is_dir():
        shutil.copytree(run.path / MODEL_FOLDER, folder / MODEL_FOLDER)
    evaluations = []
    for file in sorted(run.path.glob("metrics*.json")):
        document = read_json(file, "evaluation")
        document["run"] = run.name
        evaluations.append(document)
        write_json(folder / file.name, document, sealed=True)
    manifest = _without_paths(run.manifest)
    write_manifest(folder, manifest)
    text = model_card(run, manifest, evaluations, licence=licence)
    (folder / CARD).write_text(text, encoding="utf-8")


def check_published(folder: Path) -> None:
    """Checks that a fetched folder holds only files that its manifest names or that every run has.

    The hashes themselves are checked when the run is loaded.

    Raises:
        ArtefactError: a file of the model is not in the manifest.
    """
    manifest = read_manifest(folder)
    named = {PurePosixPath(name) for name in manifest.files}
    for file in sorted((folder / MODEL_FOLDER).rglob("*")):
        name = PurePosixPath(file.relative_to(folder).as_posix())
        if file.is_file() and name not in named:
            raise ArtefactError(
                f"{folder} has a file {name} that its manifest does not name; do not use this repository"
            )


def _without_paths(manifest: RunManifest) -> RunManifest:
    """Returns the manifest with the names of folders in place of their paths."""
    lineage = manifest.lineage
    if lineage is not None:
        datasets = [
            each.model_copy(update={"path": Path(each.path).name}) for each in lineage.datasets
        ]
        lineage = lineage.model_copy(update={"datasets": datasets})
    path = Path(manifest.dataset.path).name
    return manifest.model_copy(
        update={
            "dataset": manifest.dataset.model_copy(update={"path": path}),
            "lineage": lineage,
            "ids": _named(manifest.ids),
            "members": [
                each.model_copy(update={"run": Path(each.run).name}) for each in manifest.members
            ],
        }
    )


def _named(reference: dict[str, Any] | None) -> dict[str, Any] | None:
    if reference is None:
        return None
    return {
        name: Path(value).name if name in ("run", "path") and isinstance(value, str) else value
        for name, value in reference.items()
    }
