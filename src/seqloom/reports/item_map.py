"""Maps of item vectors in two dimensions, coloured by popularity."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.random import generator
from seqloom.data.store import Dataset
from seqloom.reports.figure_style import Canvas, Figure, escape_dollars

_PERPLEXITY = 30.0
_COLUMNS = 3
_TITLE_WIDTH = 34
"""Number of letters that fit above a panel."""


class ItemMap(Config):
    """Coordinates of some items in the vector space of one run."""

    name: str
    """Name of the run."""
    item_ids: list[str]
    events: list[int]
    """Training events of each item."""
    x: list[float]
    y: list[float]


def choose_items(num_items: int, count: int) -> Tensor:
    """Draws up to `count` items, the same at every call. Shapes: -> [n] item numbers, ascending."""
    drawn = torch.randperm(num_items, generator=generator(0, "item map"))[:count]
    return drawn.sort().values + 1


def map_items(name: str, vectors: Tensor, chosen: Tensor, dataset: Dataset) -> ItemMap:
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
        item_ids=[dataset.item_ids[n - 1] for n in chosen.tolist()],
        events=dataset.popularity[chosen].tolist(),
        x=[round(float(value), 4) for value in coordinates[:, 0]],
        y=[round(float(value), 4) for value in coordinates[:, 1]],
    )


def item_map_figure(maps: Sequence[ItemMap]) -> Figure:
    """Draws a panel for each run; rare items are drawn last, so that popular ones do not hide them."""
    columns = min(_COLUMNS, len(maps))
    lines = -(-len(maps) // columns)
    rows: list[tuple[Any, ...]] = []
    highest = max(max(one.events) for one in maps) + 1
    with Canvas(lines, columns, 3.0 * columns + 0.8, 3.1 * lines) as canvas:
        from matplotlib.colors import LogNorm

        axes = list(canvas.axes.flat)
        scale = LogNorm(1, max(highest, 2))
        drawn: Any = None
        for axis, one in zip(axes, maps, strict=False):
            points = list(zip(one.item_ids, one.events, one.x, one.y, strict=True))
            rows += [(one.name, *point) for point in points]
            points.sort(key=lambda point: -point[1])
            drawn = axis.scatter(
                [point[2] for point in points],
                [point[3] for point in points],
                c=[point[1] + 1 for point in points],
                s=7,
                cmap="viridis",
                norm=scale,
                linewidths=0,
            )
            name = "\n".join(textwrap.wrap(escape_dollars(one.name), _TITLE_WIDTH))
            axis.set_title(f"{name}\n(n = {len(points):,} items)")
            axis.set_xticks([])
            axis.set_yticks([])
        for axis in axes[len(maps) :]:
            axis.set_visible(False)
        bar = canvas.drawing.colorbar(drawn, ax=axes, shrink=0.8)
        bar.set_label("training events of the item + 1")
        svg = canvas.svg("item_map")
    caption = (
        "t-SNE of the vectors by which each run scores its items; every panel shows the same random "
        "items. Neighbours have similar vectors; distances between groups and the axes have no unit. "
        "Where colours are separated, a run distinguishes items mainly by popularity."
    )
    return Figure(
        "item_map", "Map of the items", caption, svg, ("run", "item_id", "events", "x", "y"), rows
    )
