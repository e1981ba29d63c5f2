"""Plants leaks and runs the audit."""

from __future__ import annotations

from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from seqloom.core.files import read_json, sha256_file, write_json
from seqloom.core.records import record_file
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.pipelines.audit import audit
from seqloom.pipelines.audit.report import Audit


def all_events(data: Dataset) -> Sequences:
    """Returns all events of each user, which only a leak sees."""
    return Sequences(data.events.items, data.events.offsets[:-1], data.events.offsets[1:])


def failed(root: Any, name: str = "llmesr") -> set[Any]:
    """Returns the artefacts that fail; the data set of the folder `root` is `data`."""
    is_run = (root / name / "config.yaml").exists()
    dataset = root / "data" if is_run else None
    return failures(audit(root / name, dataset=dataset))


def failures(found: Audit) -> set[Any]:
    assert found.passed == (not found.failed)
    assert all(check.action for check in found.checks if check.verdict == "fail")
    return {check.artefact for check in found.checks if check.verdict == "fail"}


def change_json(file: Any, **changes: Any) -> None:
    write_json(file, {**read_json(file, "file"), **changes})


def change_tensors(file: Any, change: Any) -> str:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    keep_hash(file)
    return sha256_file(file)


def keep_hash(file: Any) -> None:
    """Writes the new hash of `file` into the manifest beside it, as someone who plants a leak would."""
    manifest = file.with_name("manifest.json")
    reported = read_json(manifest, "manifest")
    for key in ("files", "records"):
        if isinstance(reported.get(key, {}).get(file.name), dict):
            reported[key][file.name] = record_file(file).model_dump()
            write_json(manifest, reported)


def leak(monkeypatch: pytest.MonkeyPatch, data: Any) -> None:
    """Makes `train` return all events, while the manifests describe an honest data set."""
    honest = data.training_hash
    monkeypatch.setattr(Dataset, "train", property(all_events))
    monkeypatch.setattr(Dataset, "training_hash", honest)
