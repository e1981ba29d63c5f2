"""Runs whose names come from a tree: stored, opened, audited, extended, refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from seqloom.cli.main import run as command
from seqloom.core.errors import ConfigError
from seqloom.core.tensors import tensor_fingerprints
from seqloom.data.store import Dataset
from seqloom.pipelines.audit import audit
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.recommend.add_items import add_items
from seqloom.pipelines.train.fit_run import start_system
from seqloom.pipelines.train.textual_ids import textual_ids
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.idgenrec.config import IDGenRecConfig
from seqloom.systems.idgenrec.system import IDGenRec
from support.datasets import SMALL_IDGENREC, looping_dataset, tiny_dataset

TREE: Any = {
    **{
        key: value
        for key, value in SMALL_IDGENREC.items()
        if key not in ("generation", "generator")
    },
    "rounds": 1,
    "ids": {"make": "tree", "max_tokens": 6, "longest": 6, "tree": {"leaf_items": 3, "dims": 8}},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set and a run."""
    root = tmp_path_factory.mktemp("tree")
    train(looping_dataset(root / "data"), "idgenrec", out=root / "run", config=TREE, device="cpu")
    return root


def test_a_run_opens_with_its_names_and_its_tree(made: Path) -> None:
    run, data = load_run(made / "run"), Dataset.load(made / "data")
    system: Any = run.system
    assert len(set(system.words())) == 40
    assert not hasattr(system, "generator")
    assert torch.equal(system.remake_ids(data.items, data.item_ids), system.ids[1:])
    assert 0 <= evaluate(made / "run").metrics["ndcg@10"] <= 1
    # The names of the run's own catalogue, and of any subset of it, begin as they do in the run.
    some, _ = system.new_ids(system.texts_of(data.items)[:5], data.item_ids[:5])
    assert system.words(some)[0].split()[:2] == system.words()[0].split()[:2]


def test_an_honest_run_passes_the_audit(made: Path) -> None:
    actual = audit(made / "run")
    assert [check.artefact for check in actual.checks if check.verdict != "pass"] == []
    (names,) = [check for check in actual.checks if check.artefact == "textual IDs of items"]
    assert "training part" in names.saw


def test_a_tree_of_the_held_out_events_does_not_pass(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = IDGenRec._grow_tree

    def leaky(self: Any, data: Any) -> Any:
        """The tree of whole histories."""
        events = replace(data.dataset.events, train_end=data.dataset.events.offsets[1:])
        given = data.dataset
        whole = Dataset(given.path, given.manifest, events, given.num_items)
        return honest(self, TrainingData(whole))

    with monkeypatch.context() as patch:
        patch.setattr(IDGenRec, "_grow_tree", leaky)
        train(made / "data", "idgenrec", out=tmp_path / "leak", config=TREE, device="cpu")
    failed = {c.artefact for c in audit(tmp_path / "leak").checks if c.verdict == "fail"}
    assert "start of the weights" in failed


def test_held_out_events_change_no_name(tmp_path: Path) -> None:
    rows = [[(u + 3 * n) % 25 + 1 for n in range(4 + u % 5)] for u in range(30)]
    other = [[*row[:-2], *((item + 11) % 25 + 1 for item in row[-2:])] for row in rows]
    titles = [f"thing {'red' if n % 2 else 'blue'} {'abcdefghij'[n % 10] * 3}" for n in range(25)]
    started = []
    for number, histories in enumerate((rows, other)):
        data = tiny_dataset(tmp_path / str(number), histories, titles)
        config = IDGenRecConfig.build(TREE)
        system: Any = start_system("idgenrec", config, Sizes(num_items=25), TrainingData(data))
        system.make_ids(0)
        started.append((tensor_fingerprints(system.state_dict()), system.words()))
    assert started[0] == started[1]


def test_new_items_are_named_by_their_words(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "new.csv"
    file.write_text("item_id,title\nX1,red thing number 3\nX2,zzz\n")
    add_items(made / "run", file, out=tmp_path / "with-new")
    system: Any = load_run(tmp_path / "with-new").system
    names = [
        system.language.lexicon.text(row)
        for row in load_run(tmp_path / "with-new").item_tables["ids"].tolist()
    ]
    assert len(set(names)) == 42
    assert all(names)


def test_ids_are_written_without_a_run(made: Path, tmp_path: Path) -> None:
    summary = textual_ids(made / "data", config=TREE, out=tmp_path / "ids.parquet", device="cpu")
    run: Any = load_run(made / "run").system
    assert pq.read_table(tmp_path / "ids.parquet").column("id").to_pylist() == run.words()
    assert (summary.unique, summary.tokens_max <= 6) == (40, True)


def test_the_command_suggests_a_training_that_makes_the_names_itself(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tree.yaml"
    config.write_text("rounds: 1\nids: {make: tree, max_tokens: 6, longest: 6}\n")
    given = ["--config", str(config), "--set", "ids.tree.leaf_items=3"]
    out = ["--out", str(tmp_path / "ids.parquet"), "--show", "2"]
    assert command(["ids", str(made / "data"), *given, *out]) == 0
    suggested = " ".join(capsys.readouterr().out.split())
    assert f"--system idgenrec --config {config} --set ids.tree.leaf_items=3 --out" in suggested
    assert "ids.file" not in suggested


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 2}, "rounds=1"),
        ({"generation": {"tagging_epochs": 1}}, "tagging_epochs=0"),
        ({"ids": {"make": "tree", "file": "ids.parquet"}}, "leave one of them out"),
        ({"ids": {"make": "tree", "max_tokens": 2}}, "lower tree.levels"),
    ],
)
def test_what_does_not_go_with_a_tree_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        IDGenRecConfig.build({**TREE, **changes})


@pytest.mark.parametrize(
    ("histories", "titles"),
    [
        ([[1] * 4] * 10, ["thing"]),
        ([[1, 2, 3, 4, 5, 6]] * 10, [f"thing {'x' * n}" for n in range(30)]),
        ([[1, 2, 3, 4, 5, 6], [2, 3, 4, 5], [1, 5, 3], [4, 3, 2, 1]], ["", "", *["thing"] * 28]),
    ],
    ids=["one item", "all users alike", "equal and empty texts"],
)
def test_barely_any_data_still_give_a_run(
    tmp_path: Path, histories: list[list[int]], titles: list[str]
) -> None:
    data = tiny_dataset(tmp_path / "data", histories, titles)
    train(data, "idgenrec", out=tmp_path / "run", config=TREE, device="cpu")
    system: Any = load_run(tmp_path / "run").system
    assert len(set(system.words())) == len(titles)


def test_another_catalogue_is_named_by_the_tree_of_the_run(made: Path) -> None:
    """Zero-shot: words that the run does not know are words of names too, if its tokens write them."""
    system: Any = load_run(made / "run").system
    texts = ["blue thing that number", "umber blue", "zzz"]
    ids, _ = system.new_ids(texts, ["a", "b", "c"])
    names = system.words(ids, texts)
    assert len(set(names)) == 3
    paths = {tuple(name.split()[:1]) for name in system.words()}
    assert tuple(names[0].split()[:1]) in paths


def test_a_run_goes_on_from_a_run_with_or_without_a_tree(made: Path, tmp_path: Path) -> None:
    given = {**SMALL_IDGENREC, "rounds": 1, "generation": {"tagging_epochs": 0}}
    train(made / "data", "idgenrec", out=tmp_path / "written", config=given, device="cpu")
    for number, base in enumerate((made / "run", tmp_path / "written")):
        config = {**TREE, "start_from": str(base)}
        train(made / "data", "idgenrec", out=tmp_path / str(number), config=config, device="cpu")
        system: Any = load_run(tmp_path / str(number)).system
        assert system.tree is not None
        assert len(set(system.words())) == 40
    config = {**given, "start_from": str(made / "run")}
    with pytest.raises(ConfigError, match=r"no generator to continue; set ids\.make=tree"):
        train(made / "data", "idgenrec", out=tmp_path / "none", config=config, device="cpu")


def test_a_rehearsal_makes_the_names_of_the_tree(made: Path) -> None:
    data = TrainingData(Dataset.load(made / "data"))
    config = IDGenRecConfig.build(TREE)
    system: Any = start_system("idgenrec", config, Sizes(num_items=40), data)
    assert system.rehearse() == 0.0
    assert len(set(system.words())) == 40
