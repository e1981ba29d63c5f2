"""Maps of item vectors in two dimensions."""

from __future__ import annotations

import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.random import generator
from seqloom.data.store import Dataset

_PERPLEXITY = 30.0
_CATEGORY_COLUMNS = ("category", "categories", "genre", "genres", "class", "department", "brand")
"""Columns that may part the catalogue, the best first."""
_SEPARATORS = ("|", ">", ";", ",")
_FEWEST_CATEGORISED = 0.5
"""Share of the items that must have a category."""


class MappedItems(Config):
    """The items that all maps show."""

    item_ids: list[str]
    titles: list[str]
    events: list[int]
    """Training events of each item."""
    category_column: str | None = None
    """The column of the categories; None where the catalogue has none."""
    categories: list[str] = Field(default_factory=list)
    """The category of each item, empty where it has none."""


class ItemMap(Config):
    """Coordinates of the mapped items in the vector space of one run."""

    name: str
    """Name of the run."""
    x: list[float]
    y: list[float]


def choose_items(num_items: int, count: int) -> Tensor:
    """Draws up to `count` items, the same at every call. Shapes: -> [n] item numbers, ascending."""
    drawn = torch.randperm(num_items, generator=generator(0, "item map"))[:count]
    return drawn.sort().values + 1


def describe_items(chosen: Tensor, dataset: Dataset, title_column: str) -> MappedItems:
    """Returns titles, training events and categories of items. Shapes: chosen [n] item numbers."""
    rows = dataset.items.take(pa.array((chosen - 1).tolist()))
    ids = [dataset.item_ids[n - 1] for n in chosen.tolist()]
    titles = rows.column(title_column).to_pylist() if title_column in rows.column_names else ids
    column, categories = _categories(rows)
    return MappedItems(
        item_ids=ids,
        titles=[title or item_id for title, item_id in zip(titles, ids, strict=True)],
        events=dataset.popularity[chosen].tolist(),
        category_column=column,
        categories=categories,
    )


def _categories(rows: pa.Table) -> tuple[str | None, list[str]]:
    """Returns the first category column with enough values, and the first category of each item."""
    by_name = {name.lower(): name for name in rows.column_names}
    for wanted in _CATEGORY_COLUMNS:
        if wanted not in by_name:
            continue
        values = [_first(str(v or "")) for v in rows.column(by_name[wanted]).to_pylist()]
        known = [value for value in values if value]
        if len(known) >= _FEWEST_CATEGORISED * len(values) and len(set(known)) > 1:
            return by_name[wanted], values
    return None, []


def _first(text: str) -> str:
    for separator in _SEPARATORS:
        text = text.partition(separator)[0]
    return text.strip()


def map_items(name: str, vectors: Tensor, chosen: Tensor) -> ItemMap:
    """Computes the t-SNE of the chosen items' vectors; equal vectors give equal maps.

    Source: LLM-ESR (arXiv 2405.20646), figure of item embeddings.
    Differs: shows a random sample of items, so that points are visible; all runs show the same items.

    Shapes: vectors [N, D], chosen [n] item numbers.
    """
    from sklearn.manifold import TSNE

    rows = vectors[chosen.to(vectors.device) - 1].detach().float().cpu().numpy()
    perplexity = min(_PERPLEXITY, (len(rows) - 1) / 3)
    coordinates = TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(rows)
    return ItemMap(
        name=name,
        x=[round(float(value), 4) for value in coordinates[:, 0]],
        y=[round(float(value), 4) for value in coordinates[:, 1]],
    )
