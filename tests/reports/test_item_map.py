"""The map shows the same items for every run, with their own counts, and neighbours stay together."""

from __future__ import annotations

from xml.etree import ElementTree

import torch

from seqloom.data.store import Dataset
from seqloom.reports.item_map import choose_items, item_map_figure, map_items


def test_every_run_shows_the_same_items() -> None:
    chosen = choose_items(40, 15)
    assert torch.equal(chosen, choose_items(40, 15))
    assert chosen.unique().numel() == 15
    assert int(chosen.min()) >= 1
    assert int(chosen.max()) <= 40
    assert choose_items(40, 100).tolist() == list(range(1, 41))
    assert choose_items(40, 0).tolist() == []


def test_items_with_similar_vectors_are_neighbours(dataset: Dataset) -> None:
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(40, 8, generator=draw) * 0.05
    vectors[::2] += 5.0  # items of odd number
    item_map = map_items("run", vectors, choose_items(40, 40), dataset)
    coordinates = torch.tensor([item_map.x, item_map.y]).T
    assert item_map.item_ids == list(dataset.item_ids)
    assert item_map.events == dataset.popularity[1:].tolist()
    distances = torch.cdist(coordinates, coordinates).fill_diagonal_(torch.inf)
    nearest = distances.argmin(1)
    assert (nearest % 2 == torch.arange(40) % 2).all()
    assert map_items("run", vectors, choose_items(40, 40), dataset) == item_map


def test_the_figure_has_every_point_and_its_count(dataset: Dataset) -> None:
    vectors = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    chosen = choose_items(40, 20)
    maps = [map_items(name, vectors, chosen, dataset) for name in ("a $x$", "b", "c", "d")]
    figure = item_map_figure(maps)
    assert len(figure.rows) == 80
    run, item, events, _, _ = figure.rows[21]
    assert (run, item) == ("b", maps[0].item_ids[1])
    assert events == int(dataset.popularity[dataset.item_ids.index(item) + 1])
    root = ElementTree.fromstring(figure.svg)
    drawn = "\n".join(e.text or "" for e in root.iter() if e.tag.endswith("text"))
    for label in ("a $x$", "(n = 20 items)", "training events of the item + 1"):
        assert label in drawn
