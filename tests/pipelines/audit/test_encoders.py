"""The audit of tuned text encoders: clean where they saw the training part, and each leak is found."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from seqloom.core.files import read_json, write_json
from seqloom.data.store import Dataset
from seqloom.pipelines.audit import audit
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.train.tune_encoder import tune_encoder
from support.audit_leaks import change_tensors, failures, leak
from support.datasets import tiny_dataset
from support.language_models import save_tiny_llama

STATIC = {"epochs": 1, "width": 8, "words": {"min_count": 1}}
TRANSFORMER = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 8}
DISTILLED = {"epochs": 1, "batch_size": 4, "table": {"epochs": 1, "batch_size": 8}}
TITLES = ["below", "is", "an", "instruction", "that", "describes", "a", "task"]
"""Words that the tiny language model tells apart."""
WHAT = "tuned encoder of 'tuned'"


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    rows = [[1 + (start * 3 + step) % 8 for step in range(6)] for start in range(8)]
    return tiny_dataset(tmp_path / "data", rows, titles=TITLES)


def verdicts(data: Any, folder: Any) -> Any:
    embed(data, EmbedOptions(encoder=str(folder), name="tuned", users="none"))
    found = audit(data.path)
    return failures(found), {c.artefact: c.verdict for c in found.checks}


@pytest.fixture(params=["static", "transformer", "distilled"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Arguments of `tune_encoder` of each kind."""
    if request.param == "static":
        return {"config": STATIC, "out": tmp_path / "tuned"}
    save_tiny_llama(tmp_path / "llama")
    model = {"encoder": str(tmp_path / "llama"), "kind": request.param}
    config = TRANSFORMER if request.param == "transformer" else DISTILLED
    return {**model, "config": config, "out": tmp_path / "tuned"}


def test_an_encoder_of_the_training_part_passes(data: Any, given: Any) -> None:
    tune_encoder(data, **given)
    failed, all_of_them = verdicts(data, given["out"])
    assert not failed
    assert all_of_them[WHAT] == "pass"


def test_an_encoder_tuned_on_held_out_events_is_found(
    data: Any, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        leak(patch, data)
        tune_encoder(data, **given)
    failed, _ = verdicts(data, given["out"])
    assert failed == {WHAT}


def test_an_encoder_with_other_weights_than_written_is_found(data: Any, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    tune_encoder(data, out=out, config=STATIC)
    (file,) = out.rglob("*.safetensors")
    manifest = read_json(out / "tuned_encoder.json", "manifest")
    write_json(file.with_name("manifest.json"), {})
    change_tensors(file, lambda tensors: tensors.update({k: v + 1 for k, v in tensors.items()}))
    file.with_name("manifest.json").unlink()
    assert manifest["weights_sha256"]
    failed, _ = verdicts(data, out)
    assert failed == {WHAT}


def test_an_encoder_of_another_data_set_is_not_known_to_be_clean(data: Any, tmp_path: Path) -> None:
    rows = [[1, 2, 3, 4, 5], [3, 4, 5, 6], [8, 7, 6, 5]]
    other = tiny_dataset(tmp_path / "other", rows, titles=TITLES)
    tune_encoder(other, out=tmp_path / "tuned", config=STATIC)
    failed, all_of_them = verdicts(data, tmp_path / "tuned")
    assert not failed
    assert all_of_them[WHAT] == "unknown"


@pytest.fixture
def pupil(tmp_path: Path) -> Any:
    """Arguments of `tune_encoder` of a language model that learns from the words at `words`."""
    save_tiny_llama(tmp_path / "llama")
    config = {**DISTILLED, "teacher": str(tmp_path / "words")}
    model = {"encoder": str(tmp_path / "llama"), "kind": "distilled"}
    return {**model, "config": config, "out": tmp_path / "tuned"}


def test_a_leak_of_the_teacher_is_found(
    data: Any, pupil: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        leak(patch, data)
        tune_encoder(data, out=tmp_path / "words", config=STATIC)
    tune_encoder(data, **pupil)
    failed, _ = verdicts(data, tmp_path / "tuned")
    assert failed == {WHAT}


def test_a_pupil_of_an_honest_teacher_passes_while_the_teacher_is_kept(
    data: Any, pupil: Any, tmp_path: Path
) -> None:
    tune_encoder(data, out=tmp_path / "words", config=STATIC)
    tune_encoder(data, **pupil)
    failed, found = verdicts(data, tmp_path / "tuned")
    assert not failed
    assert found[WHAT] == "pass"
    shutil.rmtree(tmp_path / "words")
    assert {c.artefact: c.verdict for c in audit(data.path).checks}[WHAT] == "unknown"


def test_a_teacher_of_another_data_set_is_not_known_to_be_clean(
    data: Any, pupil: Any, tmp_path: Path
) -> None:
    rows = [[1, 2, 3, 4, 5], [3, 4, 5, 6], [8, 7, 6, 5]]
    other = tiny_dataset(tmp_path / "other", rows, titles=TITLES)
    tune_encoder(other, out=tmp_path / "words", config=STATIC)
    tune_encoder(data, **pupil)
    failed, found = verdicts(data, tmp_path / "tuned")
    assert not failed
    assert found[WHAT] == "unknown"
