"""ONNX export: the same scores as the library in onnxruntime, for free batch and length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seqloom.core.errors import ConfigError
from seqloom.data.store import Dataset
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.recommend.export import export
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from support.datasets import small_config, tiny_dataset

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
HISTORIES = [[1], [3, 7], [2, 4, 6, 8, 10, 12, 11]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    rows = [[(user + step) % 24 + 1 for step in range(4 + user % 4)] for user in range(30)]
    made = tiny_dataset(tmp_path_factory.mktemp("data") / "tiny", rows)
    embed(made, EmbedOptions(encoder="hash", users="mean"))
    return made


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("sasrec", "bert4rec")]


@pytest.mark.parametrize("system", [*SLOW, "llmesr"])
def test_scores_are_those_of_the_library(system: str, dataset: Dataset, tmp_path: Path) -> None:
    run = tmp_path / system
    train(dataset, system, out=run, config=small_config(system), device="cpu")
    reported = export(run, tmp_path / "model.onnx")
    ids = (tmp_path / "model.items.txt").read_text().splitlines()
    assert ids == dataset.item_ids
    assert reported.difference < 1e-4
    session = onnxruntime.InferenceSession(reported.file, providers=["CPUExecutionProvider"])
    for histories in (HISTORIES, HISTORIES[1:2]):
        lengths = np.array([len(h) for h in histories])
        items = np.zeros((len(histories), max(2, lengths.max())), np.int64)
        for row, history in zip(items, histories, strict=True):
            row[: len(history)] = history
        (scores,) = session.run(None, {"items": items, "lengths": lengths})
        expected = load_run(run).recommend(
            [[f"i{n}" for n in h] for h in histories], k=24, mask_seen=False
        )
        for row, lists in zip(scores, expected, strict=True):
            actual = {item.item_id: item.score for item in lists.items}
            assert dict(zip(ids, row.tolist(), strict=True)) == pytest.approx(actual, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["logits", "z_score"])
def test_an_ensemble_is_exported_whole(scale: str, dataset: Dataset, tmp_path: Path) -> None:
    shapes = {
        "sasrec": {"hidden_size": 16, "max_len": 4},
        "bert4rec": {"hidden_size": 8, "max_len": 8},
    }
    for system, encoder in shapes.items():
        config = {**small_config(system), "encoder": encoder}
        train(dataset, system, out=tmp_path / system, config=config, device="cpu")
    runs = {"runs": [str(tmp_path / system) for system in shapes], "scale": scale}
    train(dataset, "ensemble", out=tmp_path / "both", config=runs, device="cpu")
    assert export(tmp_path / "both", tmp_path / "model.onnx").difference < 1e-4


def test_what_cannot_be_exported_is_reported(dataset: Dataset, tmp_path: Path) -> None:
    run = tmp_path / "popularity"
    train(dataset, "popularity", out=run, device="cpu")
    with pytest.raises(ConfigError, match="no sequence encoder"):
        export(run, tmp_path / "m.onnx")
