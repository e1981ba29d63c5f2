"""A tuned language model on disk: an adapter or a whole model, which plug-ins then share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from seqloom.cli.main import run
from seqloom.core.errors import ArtefactError, AssetError, ConfigError, DataError, StorageError
from seqloom.llm.loading import load_causal_lm
from seqloom.llm.reference import weights_sha256
from seqloom.pipelines.train.train import train
from seqloom.pipelines.train.tune_llm import LLMTuningSummary, tune_llm
from seqloom.runs.folder import load_run
from support.datasets import SMALL, tiny_dataset
from support.language_models import save_tiny_llama


def records(path: Path, extra: list[Any] | tuple[Any, ...] = ()) -> Path:
    lines = [
        {"instruction": f"write a task {'a ' * (n % 4)}", "input": "", "output": "is a user"}
        for n in range(24)
    ]
    path.write_text("\n".join([*map(json.dumps, lines), *extra]))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("tune")
    save_tiny_llama(where / "llama", seed=3)
    records(where / "records.jsonl")
    return where


def config(folder: Path, **changes: Any) -> dict[Any, Any]:
    return {
        "epochs": 3,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "llm": {"name": str(folder / "llama")},
        **changes,
    }


@pytest.fixture(scope="module")
def tuned(folder: Path) -> tuple[Path, LLMTuningSummary]:
    summary = tune_llm(folder / "records.jsonl", out=folder / "tuned", config=config(folder))
    return folder / "tuned", summary


def logits(name: Path, text: str = "write a task") -> Any:
    model, tokenizer = load_causal_lm(name)
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).logits


def test_the_adapter_has_learnt_and_loads_as_a_language_model(
    tuned: tuple[Path, LLMTuningSummary], folder: Path
) -> None:
    out, summary = tuned
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["train"]["loss"] < 0.9 * rows[0]["train"]["loss"]
    assert summary.loss == rows[-1]["train"]["loss"]
    assert (summary.records, summary.skipped, summary.epochs) == (24, 0, 3)
    assert summary.targets_per_epoch == 24 * 4
    assert not torch.allclose(logits(out), logits(folder / "llama"))
    assert not (out / "checkpoints").exists()
    assert json.loads((out / "adapter_config.json").read_text())["peft_type"] == "LORA"


def test_the_merged_model_gives_the_same_output(
    tuned: tuple[Path, LLMTuningSummary], folder: Path
) -> None:
    out = folder / "merged"
    summary = tune_llm(folder / "records.jsonl", out=out, config=config(folder), merge=True)
    assert summary.merged
    torch.testing.assert_close(logits(out), logits(tuned[0]))
    assert not (out / "adapter_config.json").exists()
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(out) is not None


def test_a_full_disk_while_merging_is_a_storage_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(*_: Any, **__: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    out = tmp_path / "merged"
    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", save)
    with pytest.raises(StorageError, match="could not be written: No space left"):
        tune_llm(folder / "records.jsonl", out=out, config=config(folder), merge=True)
    monkeypatch.undo()
    tune_llm(folder / "records.jsonl", out=out, config=config(folder), merge=True, resume=True)
    assert (out / "model.safetensors").exists()


def test_plug_ins_share_the_tuned_model(tuned: tuple[Path, LLMTuningSummary], folder: Path) -> None:
    out, _ = tuned
    histories = [[(u + i) % 12 + 1 for i in range(5)] for u in range(20)]
    data = tiny_dataset(folder / "data", histories)
    expected = {"epochs": 1, "max_len": 8, "llm": {"name": str(out)}, "ids": {"config": SMALL}}
    train(data, "e4srec", out=folder / "run", config=expected)
    manifest = load_run(folder / "run").manifest
    assert manifest.base["sha256"] == weights_sha256(out) != weights_sha256(folder / "llama")


def test_another_base_under_the_adapter_is_refused(
    tuned: tuple[Path, LLMTuningSummary], tmp_path: Path
) -> None:
    copy = tmp_path / "tuned"
    shutil.copytree(tuned[0], copy)
    printed = json.loads((copy / "tuned.json").read_text())
    printed["base"]["name"] = str(save_tiny_llama(tmp_path / "other", seed=8))
    (copy / "tuned.json").write_text(json.dumps(printed))
    with pytest.raises(AssetError, match="was tuned on a language model with weights"):
        weights_sha256(copy)
    with pytest.raises(ConfigError, match="was tuned on 2 layers"):
        load_causal_lm(copy, num_layers=1)


def test_a_killed_call_resumes_to_the_same_bits(
    tuned: tuple[Path, LLMTuningSummary],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from seqloom.training.checkpoint import Checkpoints

    save, saves = Checkpoints.save_last, []

    def save_and_die(self: Any, *arguments: Any) -> None:
        save(self, *arguments)
        saves.append(1)
        if len(saves) == 4:
            raise KeyboardInterrupt

    out = tmp_path / "killed"
    options: dict[str, Any] = {"config": config(folder), "checkpoint_every_s": 0}
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save_last", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            tune_llm(folder / "records.jsonl", out=out, **options)
    with pytest.raises(ArtefactError, match="already exists"):
        tune_llm(folder / "records.jsonl", out=out, **options)
    changed = config(folder, batch_size=5)
    with pytest.raises(ArtefactError, match="another configuration"):
        tune_llm(folder / "records.jsonl", out=out, config=changed, resume=True)
    tune_llm(folder / "records.jsonl", out=out, resume=True, **options)
    first, second = (load_file(p / "adapter_model.safetensors") for p in (out, tuned[0]))
    assert all(torch.equal(first[name], second[name]) for name in first | second)
    with pytest.raises(ArtefactError, match="is complete"):
        tune_llm(folder / "records.jsonl", out=out, resume=True, **options)


def test_bad_records_are_named_or_skipped_and_listed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = json.dumps({"instruction": "a " * 90, "output": "is"})
    path = records(tmp_path / "records.jsonl", extra=["{", long])
    command = ["tune-llm", str(path), "--out", str(tmp_path / "out"), "--json"]
    command += ["--llm", str(folder / "llama"), "--set", "max_tokens=100", "--set", "epochs=1"]
    assert run(command) == 2
    message = json.loads(capsys.readouterr().out)["error"]["message"]
    assert "line 25: no valid JSON" in message
    assert not (tmp_path / "out").exists()
    assert run([*command, "--skip-bad"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["records"], document["skipped"]) == (24, 2)
    listed = (tmp_path / "out" / "skipped.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in listed] == ["line 25", "line 26"]


def test_prompts_without_room_are_reported(folder: Path, tmp_path: Path) -> None:
    short = config(folder, max_tokens=20)
    encoder = config(folder, llm={"kind": "bidirectional"})
    with pytest.raises(DataError, match="leave no room for a response: line 1: "):
        tune_llm(folder / "records.jsonl", out=tmp_path / "out", config=short)
    with pytest.raises(ConfigError, match="16 or 32 bits"):
        tune_llm(folder / "records.jsonl", out=tmp_path / "out", config=encoder)
