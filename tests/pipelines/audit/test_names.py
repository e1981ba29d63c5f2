"""Leaks into names, prompts and foundation runs, and into the run that supplies item vectors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from seqloom.core.files import read_json, sha256_file
from seqloom.core.phase import Phase
from seqloom.data.batches import TrainingRows
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.pipelines.audit import audit
from seqloom.pipelines.train.foundation import train_foundation
from seqloom.pipelines.train.train import train
from seqloom.systems import sequence
from seqloom.systems.idgenrec.prompts import Prompts
from seqloom.systems.idgenrec.system import IDGenRec
from support.audit_leaks import change_json, change_tensors, failed, failures, keep_hash
from support.datasets import SMALL_IDGENREC, looping_dataset, small_config, tiny_dataset

ONCE: Any = {**SMALL_IDGENREC, "rounds": 1}
WORDS = ["soap", "cream", "oil", "comb", "brush", "lamp", "mug", "pot"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set and an honest run of IDGenRec."""
    root = tmp_path_factory.mktemp("names")
    train(looping_dataset(root / "data"), "idgenrec", out=root / "run", config=ONCE, device="cpu")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    for name in ("data", "run"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def bought_next(data: Dataset) -> list[str]:
    """For each item the title of one that somebody who had it met in the test part."""
    titles = data.items.column("title").to_pylist()
    actual = list(titles)
    part = data.held_out("test")
    rows, items = part.histories.flat()
    for row, item in zip(rows.tolist(), items.tolist(), strict=True):
        actual[item - 1] = f"{titles[item - 1]} {titles[int(part.targets[row]) - 1]}"
    return actual


def test_an_honest_run_of_names_passes_every_check(made: Path) -> None:
    actual = audit(made / "run")
    assert [c.artefact for c in actual.checks if c.verdict != "pass"] == []
    assert {"textual IDs of items", "prompts of the recommender"} <= {
        check.artefact for check in actual.checks
    }


def test_names_made_of_what_was_bought_next(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Dataset.load(root / "data")
    honest = IDGenRec._read_items

    def leaky(self: Any, *arguments: Any) -> None:
        honest(self, *arguments)
        self._texts = bought_next(data)

    with monkeypatch.context() as patch:
        patch.setattr(IDGenRec, "_read_items", leaky)
        train(data, "idgenrec", out=root / "leak", config=ONCE, device="cpu")
    assert "textual IDs of items" in failed(root, "leak")


def test_names_that_were_exchanged(root: Path) -> None:
    def exchange(tensors: Any) -> None:
        tensors["ids"][1:] = tensors["ids"][1:].roll(1, 0)

    digest = change_tensors(root / "run" / "weights.safetensors", exchange)
    change_json(root / "run" / "manifest.json", weights_sha256=digest)
    assert failed(root, "run") == {"textual IDs of items"}


def test_names_from_a_file_are_not_known(root: Path) -> None:
    from seqloom.pipelines.train.textual_ids import textual_ids

    file = root / "ids.parquet"
    textual_ids(root / "data", run=root / "run", out=file, device="cpu")
    assert pq.read_table(file).num_rows == 40
    config = {**ONCE, "ids": {**ONCE["ids"], "file": str(file)}}
    train(root / "data", "idgenrec", out=root / "given", config=config, device="cpu")
    actual = audit(root / "given", dataset=root / "data")
    unknown = [check.artefact for check in actual.checks if check.verdict == "unknown"]
    assert (actual.passed, unknown) == (True, ["textual IDs of items"])


def test_a_prompt_with_the_last_item_of_the_user(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batches are honest; the prompt made of them has the word of a held-out item in it."""
    honest = IDGenRec.phases

    def leaky(self: Any, data: Any) -> Sequence[Phase]:
        """Words of the first user's last event before every history, as a user ID would be."""
        last = int(data.dataset.events.items[data.dataset.events.offsets[1] - 1])
        row = self.table[last][self.table[last] > 0]
        message = self.builder.output_tokens[row].expand(len(self.builder.before), -1)
        self.builder._set("before", torch.cat([message, self.builder.before], 1))
        return honest(self, data)

    monkeypatch.setattr(IDGenRec, "phases", leaky)
    assert failed(root, "run") == {"training losses"}


def test_prompts_with_a_word_of_their_own_for_a_user(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqloom.systems.idgenrec.prompts import PromptBuilder

    honest = PromptBuilder.forward

    def leaky(self: Any, ids: Any, items: Any, which: Any) -> Prompts:
        built = honest(self, ids, items, which)
        built.tokens[:, 0] = torch.where(items[:, 0] % 7 == 0, 5, built.tokens[:, 0])
        return built

    monkeypatch.setattr(PromptBuilder, "forward", leaky)
    assert failed(root, "run") == {"prompts of the recommender"}


def test_prompts_that_are_not_those_of_the_file(root: Path) -> None:
    (words,) = [f for f in (root / "run" / "model").glob("*.json") if "templates" in f.read_text()]
    reported = json.loads(words.read_text())
    reported["templates"][0][0] = reported["templates"][1][0]
    words.write_text(json.dumps(reported))
    manifest = root / "run" / "manifest.json"
    files = {**read_json(manifest, "run")["files"], f"model/{words.name}": sha256_file(words)}
    change_json(manifest, files=files)
    assert "prompts of the recommender" in failed(root, "run")


def shop(root: Path, name: str, users: int, shift: int = 0) -> Dataset:
    """Twelve items; user u moves from item to item."""
    titles = [f"{WORDS[(n + shift) % 8]} {WORDS[(3 * n + shift) % 8]} {n}" for n in range(12)]
    rows = [[(u + 2 * n) % 12 + 1 for n in range(5 + u % 3)] for u in range(users)]
    return tiny_dataset(root / name, rows, titles)


@pytest.fixture(scope="module")
def foundation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("foundation")
    shops = [shop(root, "one", 16), shop(root, "two", 20, shift=3)]
    train_foundation(shops, "idgenrec", out=root / "base", config=ONCE, device="cpu")
    return root


def test_a_foundation_run_and_one_that_continues_it_pass(foundation: Path, tmp_path: Path) -> None:
    actual = audit(foundation / "base")
    assert [c.artefact for c in actual.checks if c.verdict != "pass"] == []
    assert {"one: held-out positions", "two: training part"} <= {c.artefact for c in actual.checks}
    config = {**ONCE, "start_from": str(foundation / "base")}
    train(foundation / "one", "idgenrec", out=tmp_path / "few", config=config, device="cpu")
    few = audit(tmp_path / "few")
    assert [c.artefact for c in few.checks if c.verdict != "pass"] == []
    assert "continued run: training batches" in {c.artefact for c in few.checks}


def test_a_foundation_that_was_trained_on_what_is_held_out_now(
    foundation: Path, tmp_path: Path
) -> None:
    """The same log, prepared with nothing held out, was laid into the foundation run."""
    whole = Dataset.load(shutil.copytree(foundation / "one", tmp_path / "whole"))
    histories = Sequences(whole.events.items, whole.events.offsets[:-1], whole.events.offsets[1:])
    rows = [[*histories.select(torch.tensor([u])).flat()[1].tolist(), 1, 1] for u in range(16)]
    titles = whole.items.column("title").to_pylist()
    leaky = tiny_dataset(tmp_path / "all", rows, titles)
    train_foundation([leaky], "idgenrec", out=tmp_path / "base", config=ONCE, device="cpu")
    config = {**ONCE, "start_from": str(tmp_path / "base")}
    train(foundation / "one", "idgenrec", out=tmp_path / "few", config=config, device="cpu")
    assert failures(audit(tmp_path / "few")) == {"run that training continued"}


def test_a_foundation_data_set_whose_parts_were_moved(foundation: Path, tmp_path: Path) -> None:
    data = shutil.copytree(foundation / "base-data", tmp_path / "base-data")

    def move(tensors: Any) -> None:
        tensors["train_end"][2] += 1

    change_tensors(data / "events.safetensors", move)
    assert "held-out positions" in failures(audit(data))


def test_the_run_that_supplied_item_vectors_is_audited_as_well(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(root / "data", "e4srec", out=root / "e4", config=small_config("e4srec"), device="cpu")
    assert [c.artefact for c in audit(root / "e4").checks if c.verdict != "pass"] == []
    counts = torch.ones(40, dtype=torch.int64)
    file = root / "e4" / "ids" / "popularity.safetensors"
    honest = file.read_bytes()
    save_file({"counts": counts}, file)
    keep_hash(file)
    assert failed(root, "e4") == {"ids: popularity"}
    file.write_bytes(honest)
    keep_hash(file)
    rows = sequence.training_rows

    def leaky(given: Any, *rest: Any) -> TrainingRows:
        ends = (given.ends + 1).clamp(max=len(given.items))
        return rows(Sequences(given.items, given.starts, ends), *rest)

    monkeypatch.setattr(sequence, "training_rows", leaky)
    own = {"training batches", "training losses"}  # of the phase of its text
    assert failed(root, "e4") == own | {f"ids: {name}" for name in own}
