"""Text encoders tuned by the log: what they learn, what they keep, and that they resume bit by bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seqloom.cli.main import run as command
from seqloom.core.digest import steps_digest
from seqloom.core.errors import ArtefactError, AssetError, ConfigError
from seqloom.data.store import Dataset
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.train.train import train
from seqloom.pipelines.train.tune_encoder import build_tuned_encoder, tune_encoder
from seqloom.runs.folder import load_run
from seqloom.systems.base import TrainingData
from seqloom.systems.tuned_text.batches import first_batches
from seqloom.systems.tuned_text.config import TUNING_CONFIGS
from seqloom.text.encoders import rebuild_encoder
from seqloom.text.store import load_embeddings
from seqloom.text.tuned_manifest import read_tuned_manifest, tuning_seconds
from seqloom.training.loop import Trainer
from support.datasets import tiny_dataset
from support.language_models import save_tiny_llama

STATIC = {
    "epochs": 4,
    "batch_size": 16,
    "width": 8,
    "words": {"min_count": 1, "dropout": 0.0, "pairs": False},
}
TRANSFORMER = {"epochs": 2, "batch_size": 8, "negatives": 4, "learning_rate": 1e-2, "chunk": 4}
DISTILLED = {
    "epochs": 2,
    "batch_size": 4,
    "warmup_steps": 0,
    "table": {"batch_size": 16, "learning_rate": 3e-2, "epochs": 20, "patience": None},
}
KNOWN = ["below", "is", "an", "instruction", "that", "describes", "a", "task", "write"]
KNOWN += ["user", "response", "request"]
"""Words that the tiny language model tells apart."""
WORDS = [
    "red",
    "blue",
    "green",
    "big",
    "small",
    "old",
    "new",
    "soft",
    "hard",
    "cream",
    "soap",
    "oil",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Users walk around a ring of items whose titles share no word with their neighbours'."""
    rows = [[1 + (start + step) % 12 for step in range(6)] for start in range(12) for _ in range(4)]
    return tiny_dataset(tmp_path_factory.mktemp("data") / "ring", rows, titles=WORDS)


@pytest.fixture(scope="module")
def static(data: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("static") / "tuned"
    summary = tune_encoder(data, out=out, config={**STATIC, "epochs": 30, "learning_rate": 3e-2})
    return out, summary


def test_word_vectors_learn_what_follows_what(data: Any, static: Any) -> None:
    out, summary = static
    assert summary.valid["hr@10"] >= summary.valid["ndcg@10"] > 0.5
    assert read_tuned_manifest(out).status == "complete"
    assert not (out / "checkpoints").exists()


def test_embed_reads_the_folder_as_any_encoder(data: Any, static: Any, tmp_path: Path) -> None:
    out, summary = static
    embed(data, EmbedOptions(encoder=str(out), name="tuned", users="none"))
    stored = load_embeddings(data, "tuned")
    assert stored.manifest.encoder["tuned_on"] == data.training_hash
    assert "training part" in stored.manifest.items.saw
    assert not stored.manifest.by_language_model
    config = {"text": "tuned"}
    found = train(data, "textknn", out=tmp_path / "run", config=config, device="cpu")
    assert found.valid == pytest.approx(summary.valid)
    # What the text cost is what embedding and tuning took.
    assert 0 < summary.seconds_total == read_tuned_manifest(out).seconds
    assert sum(load_run(tmp_path / "run").manifest.embed_seconds.values()) == pytest.approx(
        summary.seconds_total + stored.manifest.items.seconds
    )
    shutil.rmtree(data.path / "text")


@contextmanager
def killed_after(
    monkeypatch: pytest.MonkeyPatch, epoch: int, phase: str | None = None
) -> Iterator[None]:
    """Kills a tuning inside the block before it validates epoch 0, 1, ... (of a phase)."""
    ended = Trainer._end_epoch

    def killed(self: Any, now: Any) -> None:
        if self.position.epoch == epoch and phase in (None, now.name):
            raise KeyboardInterrupt
        ended(self, now)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_end_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            yield


def test_a_killed_tuning_resumes_with_the_same_bits(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    tune_encoder(data, out=whole, config=STATIC)
    with killed_after(monkeypatch, 2):
        tune_encoder(data, out=tmp_path / "cut", config=STATIC)
    with pytest.raises(ArtefactError, match="already exists"):
        tune_encoder(data, out=tmp_path / "cut", config=STATIC)
    with pytest.raises(ArtefactError, match="not finished"):
        embed(data, EmbedOptions(encoder=str(tmp_path / "cut"), users="none"))
    with pytest.raises(ArtefactError, match="another config"):
        tune_encoder(data, out=tmp_path / "cut", config={**STATIC, "width": 4}, resume=True)
    tune_encoder(data, out=tmp_path / "cut", config=STATIC, resume=True)
    assert weights(tmp_path / "cut").equal(weights(whole))
    with pytest.raises(ArtefactError, match="complete"):
        tune_encoder(data, out=whole, config=STATIC, resume=True)


def weights(folder: Any) -> Any:
    files = sorted(folder.rglob("*.safetensors"))
    return torch.cat([value.flatten() for file in files for value in load_file(file).values()])


@pytest.mark.parametrize(
    "choice", [{}, {"layers": 1}, {"lora": {"rank": 2}}, {"pooling": "last", "averaging": 3.0}]
)
def test_a_decoder_is_tuned_through_the_same_door(data: Any, tmp_path: Path, choice: Any) -> None:
    save_tiny_llama(tmp_path / "llama")
    summary = tune_encoder(
        data,
        out=tmp_path / "tuned",
        encoder=str(tmp_path / "llama"),
        kind="transformer",
        config={**TRANSFORMER, **choice},
    )
    assert summary.epochs == 2
    found = []
    for name, pooling in (("llama", choice.get("pooling")), ("tuned", None)):
        options = {"encoder": str(tmp_path / name), "name": name, "pooling": pooling}
        embed(data, EmbedOptions.build({**options, "users": "none"}))
        found.append(torch.nn.functional.normalize(load_embeddings(data, name).items, dim=1))
    assert found[0].shape == found[1].shape == (12, 32)
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    shutil.rmtree(data.path / "text")


def test_a_tuned_transformer_resumes_with_the_same_bits(
    data: Any, static: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny_llama(tmp_path / "llama")
    given: dict[str, Any] = {
        "encoder": str(tmp_path / "llama"),
        "kind": "transformer",
        "config": {**TRANSFORMER, "teacher": str(static[0])},
    }
    tune_encoder(data, out=tmp_path / "whole", **given)
    with killed_after(monkeypatch, 1):
        tune_encoder(data, out=tmp_path / "cut", **given)
    tune_encoder(data, out=tmp_path / "cut", **given, resume=True)
    assert weights(tmp_path / "cut").equal(weights(tmp_path / "whole"))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The ring, with titles of words that the language model knows."""
    rows = [[1 + (start + step) % 12 for step in range(6)] for start in range(12) for _ in range(4)]
    return tiny_dataset(tmp_path_factory.mktemp("known") / "ring", rows, titles=KNOWN)


@pytest.mark.parametrize("choice", [{}, {"lora": {"rank": 2}}])
def test_a_model_learns_from_texts_what_a_table_learned_from_the_log(
    known: Any, tmp_path: Path, choice: Any
) -> None:
    save_tiny_llama(tmp_path / "llama")
    summary = tune_encoder(
        known,
        out=tmp_path / "tuned",
        encoder=str(tmp_path / "llama"),
        kind="distilled",
        config={**DISTILLED, **choice},
    )
    rows = [json.loads(line) for line in (tmp_path / "tuned/log.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in rows] == ["table"] * 20 + ["distil"] * 2
    assert max(row["valid"]["ndcg@10"] for row in rows[:20]) > 0.9
    # The epoch that is kept is one of the model, not of the table.
    assert ["valid" in row for row in rows[20:]] == [False, True]
    assert summary.valid["ndcg@10"] == rows[-1]["valid"]["ndcg@10"]
    assert summary.valid["ndcg@10"] > 0.8
    embed(known, EmbedOptions(encoder=str(tmp_path / "tuned"), name="tuned", users="none"))
    assert load_embeddings(known, "tuned").manifest.by_language_model
    config = {"text": "tuned", "whitening": 0.0}
    found = train(known, "textknn", out=tmp_path / "run", config=config, device="cpu")
    assert found.valid == pytest.approx(summary.valid)
    shutil.rmtree(known.path / "text")


@pytest.mark.parametrize(("phase", "epoch"), [("table", 3), ("distil", 0), ("distil", 1)])
def test_distillation_resumes_with_the_same_bits(
    known: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, epoch: int
) -> None:
    save_tiny_llama(tmp_path / "llama")
    tune_encoder(known, out=tmp_path / "words", config=STATIC)
    given: dict[str, Any] = {
        "encoder": str(tmp_path / "llama"),
        "kind": "distilled",
        "config": {**DISTILLED, "teacher": str(tmp_path / "words")},
        "checkpoint_every_s": 0.0,
    }
    tune_encoder(known, out=tmp_path / "whole", **given)
    with killed_after(monkeypatch, epoch, phase):
        tune_encoder(known, out=tmp_path / "cut", **given)
    tune_encoder(known, out=tmp_path / "cut", **given, resume=True)
    assert weights(tmp_path / "cut").equal(weights(tmp_path / "whole"))


def test_a_teacher_of_another_training_part_is_named(
    data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny_llama(tmp_path / "llama")
    tune_encoder(data, out=tmp_path / "words", config=STATIC)
    options = ["--kind", "distilled", "--encoder", str(tmp_path / "llama")]
    choices = [f"teacher={tmp_path / 'words'}", "epochs=1", "table.epochs=1"]
    changes = [word for choice in choices for word in ("--set", choice)]
    rows = [[1 + (start + 2 * step) % 12 for step in range(6)] for start in range(12)]
    other = tiny_dataset(tmp_path / "other", rows, titles=KNOWN)
    out = tmp_path / "out"
    assert command(["tune-encoder", str(other.path), "--out", str(out), *options, *changes]) == 0
    assert "tuned on another training part" in capsys.readouterr().err
    tuned = read_tuned_manifest(out)
    (source,) = tuned.sources
    assert source.training == data.training_hash
    # What the text costs includes the teacher.
    words = read_tuned_manifest(tmp_path / "words")
    assert tuning_seconds(str(out)) == pytest.approx(tuned.seconds + words.seconds)
    assert words.seconds > 0


def test_a_teacher_that_is_missing_is_named(known: Any, tmp_path: Path) -> None:
    name = str(save_tiny_llama(tmp_path / "llama"))
    config = {**DISTILLED, "teacher": str(tmp_path / "none")}
    with pytest.raises(AssetError, match=r"^teacher: .*none"):
        tune_encoder(known, out=tmp_path / "out", encoder=name, kind="distilled", config=config)
    assert not (tmp_path / "out").exists()


def test_a_model_that_tells_no_texts_apart_is_named(data: Any, tmp_path: Path) -> None:
    name = str(save_tiny_llama(tmp_path / "llama"))
    with pytest.raises(ConfigError, match=r"llama reads all 12 texts alike .*'red\."):
        tune_encoder(data, out=tmp_path / "out", encoder=name, kind="distilled", config=DISTILLED)


def test_word_vectors_may_start_from_those_of_a_model(tmp_path: Path) -> None:
    save_tiny_llama(tmp_path / "llama")
    titles = ["below", "is", "an", "instruction", "that", "describes", "a", "task"]
    rows = [[1 + (start + step) % 8 for step in range(5)] for start in range(8)]
    known = tiny_dataset(tmp_path / "known", rows, titles=titles)
    config = {
        **STATIC,
        "width": 4,
        "words": {"min_count": 1, "start": "pretrained", "pairs": False},
    }
    tune_encoder(known, out=tmp_path / "tuned", encoder=str(tmp_path / "llama"), config=config)
    (file,) = (tmp_path / "tuned").rglob("*.safetensors")
    (table,) = load_file(file).values()
    assert table.shape[1] == 4
    assert bool(table.norm(dim=1).gt(0).all())
    wide = {**config, "width": 9}
    with pytest.raises(ConfigError, match="width"):
        tune_encoder(known, out=tmp_path / "w", encoder=str(tmp_path / "llama"), config=wide)


def test_bad_choices_are_errors_in_the_words_of_the_door(
    data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for kind in ("transformer", "distilled"):
        with pytest.raises(ConfigError, match=f"kind {kind} starts from a model: name one"):
            tune_encoder(data, out=out, kind=kind)
    with pytest.raises(ConfigError, match=r"words\.tokenizer"):
        tune_encoder(data, out=out, encoder="x", config={"words": {"tokenizer": "y"}})
    with pytest.raises(ConfigError, match="kind: found 'other'"):
        tune_encoder(data, out=out, kind="other")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="start=pretrained"):
        tune_encoder(data, out=out, config={"words": {"start": "pretrained"}})
    with pytest.raises(AssetError):
        tune_encoder(data, out=out, encoder=str(tmp_path / "none"))
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("x")
    with pytest.raises(ArtefactError, match="not a tuned encoder"):
        tune_encoder(data, out=out, overwrite=True)
    assert (
        command(["tune-encoder", str(data.path), "--out", str(tmp_path / "a"), "--set", "wide=1"])
        == 2
    )
    assert "wide: unknown key" in capsys.readouterr().err


def test_tuning_refuses_a_data_set_without_validation(tmp_path: Path) -> None:
    short = tiny_dataset(tmp_path / "short", [[1, 2], [2, 1]], titles=["red", "blue"])
    with pytest.raises(ConfigError, match="no validation events"):
        tune_encoder(short, out=tmp_path / "out")


@pytest.mark.parametrize("kind", TUNING_CONFIGS)
def test_the_recorded_batches_are_those_of_the_phase(known: Any, tmp_path: Path, kind: Any) -> None:
    encoder = "catalogue" if kind == "static" else str(save_tiny_llama(tmp_path / "llama"))
    config = TUNING_CONFIGS[kind].build({"batch_size": 8})
    given = TrainingData(known)
    tuned = build_tuned_encoder(encoder, config, given, torch.device("cpu"))
    first = steps_digest(tuned.phases()[0].steps(0))
    assert first == steps_digest(first_batches(config, given))
    assert first != steps_digest(tuned.phases()[0].steps(1))


def test_pairs_of_words_are_kept_in_a_folder_of_our_own(tmp_path: Path) -> None:
    titles = ["red soap", "red soap bar", "blue soap", "soap blue", "blue soap bar", "red bar"]
    rows = [[1 + (start + step) % 6 for step in range(5)] for start in range(6)]
    known = tiny_dataset(tmp_path / "known", rows, titles=titles)
    config = {**STATIC, "words": {"pairs": True, "min_count": 2}}
    summary = tune_encoder(known, out=tmp_path / "pairs", config=config)
    embed(known, EmbedOptions(encoder=str(tmp_path / "pairs"), name="pairs", users="none"))
    found = train(known, "textknn", out=tmp_path / "run", config={"text": "pairs"}, device="cpu")
    assert found.valid == pytest.approx(summary.valid)
    stored = load_embeddings(known, "pairs")
    again = rebuild_encoder(stored.manifest.encoder)
    torch.testing.assert_close(again.encode(["red soap."])[0], stored.items[0])
    assert not torch.allclose(*again.encode(["blue soap", "soap blue"]))
    options = EmbedOptions(encoder=str(tmp_path / "pairs"), pooling="mean", name="x")
    with pytest.raises(ConfigError, match="pooling"):
        embed(known, options)
