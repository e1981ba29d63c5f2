"""New items in a trained run: their rows come from their text, and nothing else changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from seqloom.cli.main import run as command
from seqloom.core.errors import ArtefactError, ConfigError, DataError
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.nn.ridge import fit_ridge
from seqloom.pipelines.compare.compare import compare
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.evaluate.beam_loss import evaluate_exact
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.recommend.add_items import add_items
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import Run, load_run
from seqloom.text.store import load_embeddings
from support.datasets import SMALL, small_config, tiny_dataset

NEW = pl.DataFrame({"item_id": ["n1", "n2"], "title": ["red thing number 3", "blue new"]})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Red items are followed by red ones, blue by blue ones."""
    histories = []
    for user in range(40):
        histories.append([2 * ((user // 2 + step) % 15) + 1 + user % 2 for step in range(6)])
    titles = [f"{'blue' if i % 2 else 'red'} thing number {i // 2}" for i in range(30)]
    made = tiny_dataset(tmp_path_factory.mktemp("data") / "d", histories, titles)
    embed(made, EmbedOptions(encoder="hash:64", users="mean"))
    return made


@pytest.fixture(scope="module")
def trained(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    config = {**small_config("e4srec"), "epochs": 4, "candidates": "ids"}
    train(data, "e4srec", out=out, config=config)
    return out


@pytest.fixture(scope="module")
def grown(trained: Path) -> Run:
    add_items(trained, NEW, out=trained.parent / "grown")
    return load_run(trained.parent / "grown")


def scores(run: Run, histories: list[list[int]]) -> torch.Tensor:
    batch = Sequences.from_lists(histories).pad()
    with torch.inference_mode():
        return run.scorer.score(batch.items, batch.lengths)


def test_old_items_keep_their_scores(trained: Path, grown: Run) -> None:
    before, after = load_run(trained), grown
    histories = [[1, 3, 5], [2], [30, 28]]
    torch.testing.assert_close(scores(before, histories), scores(after, histories)[:, :30])
    old, new = (load_file(run.path / "weights.safetensors") for run in (before, after))
    for name, value in old.items():
        assert torch.equal(value, new[name][: len(value)] if value.ndim else new[name]), name
    assert after.item_ids == [*before.item_ids, "n1", "n2"]
    assert after.popularity.tolist() == [*before.popularity.tolist(), 0, 0]
    assert after.titles[-2:] == ["red thing number 3", "blue new"]


def test_the_rows_are_the_text_through_a_map_fitted_on_trained_items(
    trained: Path, grown: Run, data: Dataset
) -> None:
    text = load_embeddings(data).items
    known = data.popularity[1:] > 0
    old, new = (load_file(run / "weights.safetensors") for run in (trained, grown.path))
    for name in ("ids", "head"):
        # Item 7 is "red thing number 3" too: the new one gets what the map makes of item 7.
        expected = fit_ridge(text[known], old[name][known])(text[6:7])
        assert new[name].dtype == old[name].dtype
        torch.testing.assert_close(new[name][30:31].float(), expected, rtol=1e-3, atol=1e-4)


def test_new_items_are_recommended_and_read_in_histories(grown: Run) -> None:
    run = grown
    (actual,) = run.recommend([["i1", "i3"]], k=100)
    assert {"n1", "n2"} <= {item.item_id for item in actual.items}
    (alone,) = run.recommend([["n1"]], k=100)
    assert not alone.unknown
    assert "n1" not in {item.item_id for item in alone.items}


def test_a_new_item_is_scored_like_items_of_its_text(grown: Run) -> None:
    """Red histories prefer the red new item more than blue histories do."""
    red, blue = scores(grown, [[1, 3, 5, 7], [2, 4, 6, 8]])
    assert red[30] - red[31] > blue[30] - blue[31]


def test_the_evaluation_is_over_the_items_it_knows(
    trained: Path, grown: Run, data: Dataset
) -> None:
    before = evaluate(trained, dataset=data, device="cpu").metrics
    assert evaluate(grown, dataset=data, device="cpu").metrics == before


def test_reports_and_exact_lists_are_over_the_items_it_knows(shop: Dataset, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    train(shop, "idgenrec", out=before, config=small_config("idgenrec"), device="cpu")
    add_items(before, NEW, out=after)
    report = tmp_path / "report.html"
    compare([before, after], report=report, item_map=0)
    assert "red thing number" in report.read_text(encoding="utf-8")
    first, second = evaluate_exact(before), evaluate_exact(after)
    assert first.metrics == second.metrics
    assert first.list_metrics == second.list_metrics


def test_items_can_be_added_again(grown: Run, tmp_path: Path) -> None:
    more = NEW.with_columns(item_id=pl.Series(["n3", "n4"]))
    again = add_items(grown.path, more, out=tmp_path / "again")
    assert (again.added, again.items) == (2, 34)
    run: Any = load_run(tmp_path / "again")
    assert (run.trained_items, run.manifest.added_items) == (30, 4)
    # The same text gives the same row, whichever items were added before.
    assert torch.equal(run.system.head[30:32], run.system.head[32:34])


def test_the_command_replaces_the_run(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    NEW.write_csv(tmp_path / "items.csv")
    assert command(["add-items", str(copy), str(tmp_path / "items.csv"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["added"], document["items"]) == (2, 32)
    assert set(document["explained"]) == {"ids", "head"}
    assert len(load_run(copy).item_ids) == 32
    assert command(["add-items", str(copy), str(tmp_path / "items.csv")]) == 2
    assert "in the catalogue already: n1, n2" in capsys.readouterr().err


def test_columns_that_do_not_fit_are_reported(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    NEW.with_columns(colour=pl.lit("red")).write_csv(tmp_path / "more.csv")
    arguments = ["add-items", str(trained), str(tmp_path / "more.csv")]
    assert command([*arguments, "--out", str(tmp_path / "a")]) == 0
    assert "column 'colour' is not in the catalogue" in capsys.readouterr().err
    with pytest.raises(DataError, match="none of the catalogue's text columns"):
        add_items(trained, NEW.rename({"title": "about"}), out=tmp_path / "b")
    with pytest.raises(DataError, match="holds no item"):
        add_items(trained, NEW.clear(), out=tmp_path / "b")


def test_what_cannot_be_done_is_reported(data: Dataset, trained: Path, tmp_path: Path) -> None:
    train(data, "sasrec", out=tmp_path / "sasrec", config=SMALL)
    with pytest.raises(
        ConfigError, match=r"run of sasrec cannot take new items; those of .*e4srec"
    ):
        add_items(tmp_path / "sasrec", NEW)
    with pytest.raises(ArtefactError, match="has no embeddings 'other'"):
        add_items(trained, NEW, text="other", out=tmp_path / "out")
    with pytest.raises(ArtefactError, match="already exists"):
        add_items(trained, NEW, out=tmp_path / "sasrec")
