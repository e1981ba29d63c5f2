"""Trackers: a stand-in that can fail, a real MLflow file store, Weights & Biases offline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.progress import SilentProgress
from seqloom.data.store import Dataset
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train.tracking import track
from seqloom.pipelines.train.train import train
from seqloom.training.trackers import Subject
from support.datasets import small_config

CONFIG = {**small_config("sasrec"), "epochs": 2}


class Kept:
    """A tracker that keeps everything, and fails at a step."""

    name = "kept"

    def __init__(self, fails_at: int = 0) -> None:
        self.fails_at = fails_at
        self.subject: Subject | None = None
        self.keys: list[str | None] = []
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.files: list[str] = []
        self.ends: list[bool] = []

    def open(self, subject: Subject, key: str | None) -> str:
        self.subject = subject
        self.keys.append(key)
        return "key-1"

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if step == self.fails_at:
            raise RuntimeError("no connection")
        self.rows.append((step, dict(metrics)))

    def add_files(self, files: Sequence[tuple[Path, str]]) -> None:
        self.files = [name for _, name in files]

    def close(self, *, complete: bool) -> None:
        self.ends.append(complete)


class Warnings(SilentProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, message: str) -> None:
        self.texts.append(message)


def test_a_training_is_recorded_as_it_runs(shop: Dataset, tmp_path: Path) -> None:
    kept = Kept()
    train(shop, "sasrec", out=tmp_path / "run", config=CONFIG, trackers=[kept])
    assert kept.subject is not None
    assert kept.subject.name == "run"
    assert kept.subject.parameters["epochs"] == 2
    assert kept.subject.parameters["encoder.hidden_size"] == CONFIG["encoder"]["hidden_size"]
    assert kept.subject.tags["system"] == "sasrec"
    assert [step for step, _ in kept.rows] == [1, 2, 2]
    assert {"train/loss", "valid/ndcg@10", "seconds"} <= kept.rows[0][1].keys()
    assert "best_valid/ndcg@10" in kept.rows[2][1]
    assert {"run/weights.safetensors", "run/manifest.json", "run/log.jsonl"} <= set(kept.files)
    assert not any("checkpoints" in name or "tensorboard" in name for name in kept.files)
    assert kept.ends == [True]

    evaluate(tmp_path / "run")
    report = tmp_path / "report.html"
    report.write_text("<p>")
    later = track(tmp_path / "run", kept, report=report)
    assert kept.keys == [None, "key-1"]
    assert later.metrics["test/ndcg@10"] == kept.rows[-1][1]["test/ndcg@10"]
    assert "test/tail_item/ndcg@10" in later.metrics
    assert {"report/report.html", "run/metrics.json"} <= set(later.files)


def test_a_tracker_that_fails_ends_no_training(shop: Dataset, tmp_path: Path) -> None:
    kept, warnings = Kept(fails_at=2), Warnings()
    summary = train(
        shop, "sasrec", out=tmp_path / "run", config=CONFIG, trackers=[kept], progress=warnings
    )
    assert summary.epochs == 2
    assert [step for step, _ in kept.rows] == [1]
    assert "kept is left out from here on (no connection)" in warnings.texts[0]


def test_a_record_is_closed_when_the_training_ends_early(shop: Dataset, tmp_path: Path) -> None:
    kept = Kept()

    def stop(validation: int, metrics: dict[str, float]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(shop, "sasrec", out=tmp_path / "run", config=CONFIG, trackers=[kept], watch=stop)
    assert kept.ends == [False]
    with pytest.raises(ArtefactError, match="is not finished"):
        track(tmp_path / "run", kept)
    train(shop, "sasrec", out=tmp_path / "run", config=CONFIG, trackers=[kept], resume=True)
    assert kept.keys == [None, "key-1"]
    assert kept.ends == [False, True]


def test_an_unknown_or_missing_tracker_is_said_before_training(
    shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="no tracker 'mlfow'; did you mean 'mlflow'"):
        train(shop, "sasrec", out=tmp_path / "run", trackers=["mlfow"])
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(
        ConfigError, match=r"wandb is not installed; pip install 'seqloom\[wandb\]'"
    ):
        train(shop, "sasrec", out=tmp_path / "run", trackers=["wandb"])
    assert not (tmp_path / "run").exists()


def test_mlflow_keeps_parameters_epochs_and_files(
    shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'seqloom[mlflow]'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions ask for a database
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path / 'mlruns'}")
    run = tmp_path / "run"
    train(shop, "sasrec", out=run, config=CONFIG, trackers=["mlflow"])
    evaluation = evaluate(run)
    tracked = track(run, "mlflow")
    client = mlflow.MlflowClient()
    record = client.get_run(tracked.key)
    assert record.info.status == "FINISHED"
    assert record.data.params["epochs"] == "2"
    assert "encoder.hidden_size" in record.data.params
    assert record.data.tags["dataset"] == shop.path.name
    # Seen items are not masked by default on this data, which repeats; both protocols are recorded.
    assert evaluation.details.masked is False
    ndcg = pytest.approx(evaluation.metrics["ndcg@10"])
    assert record.data.metrics["test-unmasked/ndcg_at_10"] == ndcg
    masked = json.loads((run / "metrics.json").read_text())["metrics"]["ndcg@10"]
    assert record.data.metrics["test/ndcg_at_10"] == pytest.approx(masked)
    assert masked != ndcg
    losses = client.get_metric_history(tracked.key, "train/loss")
    assert [point.step for point in losses] == [1, 2]
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [point.value for point in losses] == [row["train"]["loss"] for row in rows]
    stored = {file.path for file in client.list_artifacts(tracked.key, "run")}
    assert {"run/weights.safetensors", "run/metrics.json"} <= stored
    experiment = client.get_experiment_by_name("seqloom")
    assert len(client.search_runs([experiment.experiment_id])) == 1


@pytest.mark.slow
def test_wandb_offline_keeps_a_run(
    shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="pip install 'seqloom[wandb]'")
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run = tmp_path / "run"
    train(shop, "sasrec", out=run, config=CONFIG, trackers=["wandb"])
    keys: dict[str, Any] = json.loads((run / "trackers.json").read_text())
    (file,) = (tmp_path / "wandb").rglob(f"run-{keys['wandb']}.wandb")
    content = file.read_bytes()
    for text in (b"encoder.hidden_size", b"train/loss", b"valid/ndcg@10", b"weights.safetensors"):
        assert text in content
