from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.data.store import Dataset
from seqloom.pipelines.embed.embed import EmbedSummary, embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.text import similar_users
from seqloom.text.store import check_name, load_embeddings, text_names
from support.datasets import tiny_dataset

HISTORIES = [[1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3, 1], [3]]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return tiny_dataset(
        tmp_path / "data", HISTORIES, ["red soap", "blue comb", "brush", "red nail"]
    )


def make(dataset: Dataset, name: str = "one", **options: Any) -> EmbedSummary:
    return embed(dataset, EmbedOptions(encoder="hash:32", name=name, **options))


def test_without_a_name_the_only_ones_are_taken(dataset: Dataset) -> None:
    with pytest.raises(ArtefactError, match=r"has no embeddings.*seqloom embed"):
        load_embeddings(dataset)
    make(dataset)
    assert load_embeddings(dataset).name == "one"


def test_of_several_the_default_is_taken(dataset: Dataset) -> None:
    make(dataset)
    make(dataset, "two", item_template="title")
    with pytest.raises(ArtefactError, match=r"'one', 'two'.*--default"):
        load_embeddings(dataset)
    make(dataset, "two", item_template="title", default=True)
    assert load_embeddings(dataset).name == "two"


def test_a_name_that_is_not_there_lists_what_is(dataset: Dataset) -> None:
    make(dataset)
    with pytest.raises(ArtefactError, match=r"has no embeddings 'x' .it has 'one'.*--name x"):
        load_embeddings(dataset, "x")


def test_embeddings_of_other_data_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    make(dataset)
    other = tiny_dataset(tmp_path / "other", HISTORIES[::-1])
    (dataset.path / "text").rename(other.path / "text")
    with pytest.raises(ArtefactError, match="fingerprint"):
        load_embeddings(other)


def test_a_changed_or_missing_file_is_detected(dataset: Dataset) -> None:
    make(dataset)
    file = dataset.path / "text" / "one" / "users.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtefactError, match="damaged"):
        load_embeddings(dataset)
    file.unlink()
    with pytest.raises(ArtefactError, match="missing"):
        load_embeddings(dataset)


@pytest.mark.parametrize(
    "change", [{"version": 9}, {"format": "x"}, {"width": "wide"}, {"more": 1}]
)
def test_another_format_is_refused(
    dataset: Dataset, change: dict[str, int] | dict[str, str]
) -> None:
    make(dataset)
    file = dataset.path / "text" / "one" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ArtefactError, match=r"seqloom embed|damaged"):
        load_embeddings(dataset)


def test_similar_users_are_computed_once(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    make(dataset)
    actual = load_embeddings(dataset).similar_users(2)
    assert actual.shape == (4, 2)
    monkeypatch.setattr(similar_users, "top_similar", None)
    assert torch.equal(load_embeddings(dataset).similar_users(2), actual)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="1 to 3"):
        load_embeddings(dataset).similar_users(4)


def test_similar_users_need_users(dataset: Dataset) -> None:
    make(dataset, users="none")
    assert load_embeddings(dataset).users is None
    with pytest.raises(ArtefactError, match="--users prompt"):
        load_embeddings(dataset).similar_users(2)


@pytest.mark.parametrize("name", ["", ".x", "a/b", "..", "a\nb"])
def test_a_name_must_name_a_folder(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name"):
        check_name(name)


def test_unfinished_work_is_no_embedding(dataset: Dataset) -> None:
    (dataset.path / "text" / ".items-1.work").mkdir(parents=True)
    assert text_names(dataset) == []
