"""Steering of a run: vectors, filters, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import Run, load_run
from seqloom.runs.steering import run_steering
from seqloom.text.about import AboutError
from support.datasets import SMALL, tiny_dataset

TITLES = [f"{'red' if n % 2 else 'blue'} pen {n}" for n in range(1, 21)]
PRICES = [str(n) for n in range(1, 21)]
BRANDS = ["BIC" if n < 6 else "Pilot" for n in range(1, 21)]
HISTORIES = [[1 + (n + step) % 20 for step in range(5)] for n in range(24)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("steering")
    data = tiny_dataset(made / "data", HISTORIES, TITLES, {"price": PRICES, "brand": BRANDS})
    embed(data, EmbedOptions(encoder="hash:256", users="mean"))
    for system in ("llmesr", "sasrec"):
        train(data, system, out=made / system, config=SMALL, device="cpu")
    return made


@pytest.fixture(params=["llmesr", "sasrec"])
def run(request: pytest.FixtureRequest, folder: Path) -> Run:
    return load_run(folder / request.param)


def listed(run: Run, about: str, weight: float = 20.0, **options: Any) -> list[str]:
    (answer,) = run.recommend([["i1"]], k=10, about=about, about_weight=weight, **options)
    return [item.item_id for item in answer.items]


def test_filters_hold_for_every_item_and_are_listed(run: Run) -> None:
    (answer,) = run.recommend([["i1"]], k=10, about="under 5, not brand Pilot")
    assert {item.item_id for item in answer.items} == {"i2", "i3", "i4"}
    assert answer.about.filters == ["price below 5", "brand is not pilot"]


def test_the_words_that_are_unwanted_push_items_down(run: Run) -> None:
    assert {int(item[1:]) % 2 for item in listed(run, "nothing blue")[:4]} == {1}
    assert {int(item[1:]) % 2 for item in listed(run, "blue, not red")[:5]} == {0}


@pytest.mark.parametrize(
    ("about", "reason"),
    [("", "asks for nothing"), ("red, not red", "for and against"), ("under 1", "on price")],
)
def test_what_cannot_be_followed_is_refused(run: Run, about: str, reason: str) -> None:
    with pytest.raises(AboutError, match=reason):
        listed(run, about)


@pytest.mark.parametrize("weight", [-1.0, 101.0, float("nan")])
def test_a_weight_has_limits(run: Run, weight: float) -> None:
    with pytest.raises(ConfigError, match="about_weight"):
        listed(run, "red", weight)


def test_a_sentence_is_encoded_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    steering = run_steering(run)
    first = steering.follow("red, not blue").steering
    monkeypatch.setattr(steering._item_text, "encode", None)
    assert torch.equal(steering.follow("red, not blue").steering, first)


def test_items_behind_the_catalogue_are_steered_too(run: Run) -> None:
    later = [("new", {"title": "red pen", "price": "2"}), ("old", {"title": "box", "price": "9"})]
    steered = run_steering(run).follow("red pen, under 5", 1.0, later).steering
    assert len(steered) == 22
    assert steered[20] == steered[torch.isfinite(steered)].max()
    assert steered[21] == -torch.inf


def test_items_added_in_memory_are_steered(folder: Path) -> None:
    run = load_run(folder / "llmesr")
    new = {"item_id": ["new"], "title": ["golden fountain"], "price": ["3"], "brand": ["Pilot"]}
    run.add_items(pa.table(new))
    assert listed(run, "golden fountain")[0] == "new"


def test_a_run_of_a_text_system_needs_no_data_set(folder: Path, tmp_path: Path) -> None:
    expected = listed(load_run(folder / "llmesr"), "blue pen")
    shutil.move(folder / "data", tmp_path / "data")
    try:
        assert listed(load_run(folder / "llmesr"), "blue pen") == expected
        with pytest.raises(ArtefactError, match="data set"):
            listed(load_run(folder / "sasrec"), "blue pen")
        moved = tmp_path / "data"
        assert listed(load_run(folder / "sasrec"), "blue pen", dataset=moved)
    finally:
        shutil.move(tmp_path / "data", folder / "data")


def test_sentences_of_one_run_share_the_vectors_until_the_catalogue_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqloom.runs import recommendations

    run, made = load_run(folder / "llmesr"), []
    plain = recommendations.run_steering

    def counted(*arguments: Any, **options: Any) -> Any:
        made.append(1)
        return plain(*arguments, **options)

    monkeypatch.setattr(recommendations, "run_steering", counted)
    listed(run, "red")
    listed(run, "blue")
    assert len(made) == 1
    new = {"item_id": ["new"], "title": ["golden fountain"], "price": ["3"], "brand": ["Pilot"]}
    run.add_items(pa.table(new))
    assert listed(run, "golden fountain")[0] == "new"
    assert len(made) == 2
