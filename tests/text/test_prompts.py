from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from seqloom.core.errors import ConfigError
from seqloom.data.store import Dataset
from seqloom.text.prompts import WITHOUT_TEXT, item_prompts, title_column, user_prompts
from support.datasets import tiny_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return tiny_dataset(
        tmp_path / "data",
        [[1, 2, 3, 4], [4, 3, 2, 1, 2], [2]],
        titles=["red  soap", "blue comb", "", "green brush"],
        columns={"brand": ["Acme", "", "", "Bolt"]},
    )


def test_the_full_prompt_has_every_column_by_name_and_no_empty_label(dataset: Dataset) -> None:
    prompts = item_prompts(dataset)
    assert prompts.texts == [
        "title: red soap. brand: Acme.",
        "title: blue comb.",
        WITHOUT_TEXT,
        "title: green brush. brand: Bolt.",
    ]
    assert prompts.without_text == 1


def test_the_only_column_needs_no_name(tmp_path: Path) -> None:
    only = tiny_dataset(tmp_path / "only", [[1, 2, 1]], titles=["red soap", "comb"])
    assert item_prompts(only).texts == ["red soap.", "comb."]


def test_the_cropped_prompt_is_the_title_alone(dataset: Dataset) -> None:
    assert item_prompts(dataset, "title").texts[0] == "red soap"


def test_own_templates_come_as_text_or_file(dataset: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("{title} of {brand}\n")
    for template in (str(file), "{title} of {brand}"):
        assert item_prompts(dataset, template).texts[:2] == ["red soap of Acme", "blue comb"]


def test_templates_that_are_not_there_are_explained(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"\{colour\}.*\{title\}, \{brand\}"):
        item_prompts(dataset, "{colour}")
    with pytest.raises(ConfigError, match="'full', 'title'"):
        item_prompts(dataset, "fulll")
    with pytest.raises(ConfigError, match=r"\{titles\}"):
        user_prompts(dataset, "{brand}")


def test_user_prompts_hold_the_training_part_only_most_recent_last(dataset: Dataset) -> None:
    texts = user_prompts(dataset).texts
    start = "The user chose the following items, the most recent last: "
    assert texts[0] == f"{start}red soap, blue comb"
    assert texts[1] == f"{start}green brush, {WITHOUT_TEXT}, blue comb"
    assert texts[2] == f"{start}blue comb"


def test_what_is_held_out_never_reaches_a_prompt(tmp_path: Path) -> None:
    titles = [f"word{n}" for n in range(1, 7)]
    one = tiny_dataset(tmp_path / "one", [[1, 2, 3, 4]], titles)
    two = tiny_dataset(tmp_path / "two", [[1, 2, 5, 6]], titles)
    assert user_prompts(one).texts == user_prompts(two).texts


def test_long_histories_lose_their_oldest_items(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "d", [[1, 2, 3, 4, 5, 6]], [f"two w{n}" for n in range(1, 7)])
    cut = user_prompts(data, "{titles}", max_items=3)
    assert (cut.texts, cut.cut) == (["two w2, two w3, two w4"], 1)
    assert user_prompts(data, "{titles}", max_words=5).texts == ["two w3, two w4"]
    assert user_prompts(data, "{titles}", max_words=1).texts == ["two w4"]
    assert user_prompts(data, "{titles}").cut == 0


def test_a_user_without_training_items_has_no_text(tmp_path: Path) -> None:
    prompts = user_prompts(tiny_dataset(tmp_path / "d", [[1], []], ["a"]))
    assert prompts.texts[1] is None
    assert prompts.without_text == 1


def test_items_without_text_columns_are_refused(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "d", [[1]], ["a"])
    data.__dict__["items"] = pa.table({"item_id": ["i1"]})
    with pytest.raises(ConfigError, match="--items"):
        item_prompts(data)


def test_the_title_is_found_under_other_names() -> None:
    assert title_column(["year", "movie_title"]) == "movie_title"
    assert title_column(["year", "Name"]) == "Name"
    assert title_column(["year", "genre"]) == "year"
    assert title_column(["name", "title"]) == "title"
