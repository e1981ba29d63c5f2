"""Writes the files of a run with their hashes, and reads only files that match them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from seqloom.core.config import read_config_file
from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError
from seqloom.core.files import atomic_file, atomic_folder, sha256_file, sha256_text
from seqloom.core.records import FileRecord, check_file
from seqloom.core.tensors import write_tensors
from seqloom.systems.base import MODEL_FOLDER, System

CONFIG = "config.yaml"
ITEMS = "items.parquet"
POPULARITY = "popularity.safetensors"
WEIGHTS = "weights.safetensors"
LOG = "log.jsonl"
REMEDY = "train again"


def read_stored_config(path: Path) -> dict[str, Any]:
    """Reads the values of a run's `config.yaml`.

    Raises:
        ArtefactError: the file is missing or not YAML.
    """
    with reading(path / CONFIG, "the configuration of a run", REMEDY):
        return read_config_file(path / CONFIG)


def config_digest(values: Mapping[str, Any], locations: Collection[str]) -> str:
    """Hashes configuration values (SHA-256), without the dotted keys `locations`, which only hold paths."""
    kept = json.loads(json.dumps(values))
    for key in locations:
        *sections, last = key.split(".")
        section = kept
        for name in sections:
            section = section.get(name, {})
        section.pop(last, None)
    return sha256_text(json.dumps(kept, sort_keys=True))


def checked_config(path: Path, cls: type[System[Any]], digest: str) -> Any:
    """Reads the configuration of a run of `cls`. `digest` is that of its manifest, empty in an older run.

    Raises:
        ArtefactError: `config.yaml` is missing, damaged or was changed.
    """
    values = read_stored_config(path)
    with reading(path / CONFIG, "the configuration of a run", REMEDY):
        actual = config_digest(values, cls.location_keys)
        config = cls.config_class.build_stored(values)
    if digest and actual != digest:
        may = f" (only {', '.join(sorted(cls.location_keys))} may)" if cls.location_keys else ""
        raise ArtefactError(
            f"{path / CONFIG} was changed since training{may}: its values have SHA-256 {actual[:12]}, the "
            f"manifest says {digest[:12]}; put it back, or {REMEDY}"
        )
    return config


def write_weights(path: Path, state: Mapping[str, Tensor]) -> str:
    """Writes the state that a system saves (`saved_state`); returns the SHA-256 of the file."""
    file = path / WEIGHTS
    with atomic_file(file) as work:
        write_tensors(work, {name: value.detach().cpu() for name, value in state.items()})
    return sha256_file(file)


def check_weights(path: Path, sha256: str) -> None:
    """Checks that a run's weights are those that training wrote.

    Raises:
        ArtefactError: the file is missing or was changed.
    """
    _check_hash(path / WEIGHTS, "the weights of a run", sha256)


def read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Reads the weights that `write_weights` wrote.

    Raises:
        ArtefactError: the file is missing, damaged, changed, or holds values that are not numbers.
    """
    file = path / WEIGHTS
    check_weights(path, sha256)
    with reading(file, "the weights of a run", REMEDY):
        state = load_file(file)
    bad = [n for n, t in state.items() if t.is_floating_point() and bool(t.isnan().any())]
    if bad:
        raise ArtefactError(f"{file} holds NaN in {', '.join(bad[:5])}; {REMEDY}")
    return state


def write_model_files(path: Path, system: System[Any]) -> dict[str, str]:
    """Writes the files that the system needs beside its weights; returns the SHA-256 of each."""
    with tempfile.TemporaryDirectory(prefix=".model-files.", suffix=".part", dir=path) as scratch:
        system.write_files(Path(scratch))
        if not any(Path(scratch).iterdir()):
            return {}
        with atomic_folder(path / MODEL_FOLDER, overwrite=True) as work:
            shutil.copytree(scratch, work, dirs_exist_ok=True)
            work.chmod(0o755)
    files = sorted(file for file in (path / MODEL_FOLDER).rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): sha256_file(file) for file in files}


def check_model_files(path: Path, files: Mapping[str, str]) -> None:
    """Checks that the files beside the weights are those that training wrote.

    Raises:
        ArtefactError: a file is missing or was changed.
    """
    for name, sha256 in files.items():
        _check_hash(path / name, "a file of a run", sha256)


def _check_hash(file: Path, what: str, sha256: str) -> None:
    with reading(file, what, REMEDY):
        actual = sha256_file(file)
    if actual != sha256:
        raise ArtefactError(
            f"{file} was damaged or changed since training: it has SHA-256 {actual[:12]}, the manifest "
            f"says {sha256[:12]}; put it back, or {REMEDY}"
        )


def read_popularity(path: Path, num_items: int, records: Mapping[str, FileRecord]) -> Tensor | None:
    """Reads the number of training events of each item; None in a run of an older seqloom.

    Raises:
        ArtefactError: the file is damaged, changed or counts other items.

    Shapes: -> [N] int64.
    """
    file = path / POPULARITY
    if not file.exists() and POPULARITY not in records:
        return None
    check_file(path, POPULARITY, records, REMEDY)
    with reading(file, "the popularity of a run's items", REMEDY):
        counts = load_file(file)["counts"]
    if counts.dtype != torch.int64 or counts.shape != (num_items,) or bool((counts < 0).any()):
        raise ArtefactError(
            f"{file} holds {counts.dtype} of shape {tuple(counts.shape)}, not counts of {num_items} items; "
            f"{REMEDY}"
        )
    return counts


def read_training_log(path: Path, records: Mapping[str, FileRecord]) -> list[dict[str, Any]]:
    """Reads the rows of `log.jsonl`; returns none if there is no such file.

    Raises:
        ArtefactError: the file is damaged or was changed.
    """
    file = path / LOG
    if not file.exists() and LOG not in records:
        return []
    check_file(path, LOG, records, REMEDY)
    with reading(file, "the log of a run", REMEDY):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is not an object")
    return rows
