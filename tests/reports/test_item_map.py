"""The map shows the same items for every run, with titles and categories, and neighbours stay together."""

from __future__ import annotations

import pyarrow as pa
import pytest
import torch

from seqloom.data.store import Dataset
from seqloom.reports.item_map import _categories, choose_items, describe_items, map_items


def test_every_run_shows_the_same_items() -> None:
    chosen = choose_items(40, 15)
    assert torch.equal(chosen, choose_items(40, 15))
    assert chosen.unique().numel() == 15
    assert int(chosen.min()) >= 1
    assert int(chosen.max()) <= 40
    assert choose_items(40, 100).tolist() == list(range(1, 41))
    assert choose_items(40, 0).tolist() == []


def test_items_are_described_by_title_and_events(dataset: Dataset) -> None:
    items = describe_items(choose_items(40, 40), dataset, "title")
    assert items.item_ids == list(dataset.item_ids)
    assert items.titles[0] == "item 1"
    assert items.events == dataset.popularity[1:].tolist()
    assert (items.category_column, items.categories) == (None, [])
    assert describe_items(choose_items(40, 2), dataset, "none").titles[0].startswith("i")


def test_items_with_similar_vectors_are_neighbours() -> None:
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(40, 8, generator=draw) * 0.05
    vectors[::2] += 5.0  # items of odd number
    item_map = map_items("run", vectors, choose_items(40, 40))
    coordinates = torch.tensor([item_map.x, item_map.y]).T
    distances = torch.cdist(coordinates, coordinates).fill_diagonal_(torch.inf)
    nearest = distances.argmin(1)
    assert (nearest % 2 == torch.arange(40) % 2).all()
    assert map_items("run", vectors, choose_items(40, 40)) == item_map


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"Genres": ["a|b", "c", ""]}, ("Genres", ["a", "c", ""])),
        ({"categories": ["", "", "x"], "brand": ["p", "q", "p"]}, ("brand", ["p", "q", "p"])),
        ({"category": ["same"] * 3}, (None, [])),
        ({"title": ["a", "b", "c"]}, (None, [])),
    ],
)
def test_a_column_that_parts_the_catalogue_is_the_category(
    columns: dict[str, list[str]], expected: tuple[str | None, list[str]]
) -> None:
    assert _categories(pa.table(columns)) == expected
