"""Ranks items that training never saw, by the run, by a random order and by the text alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.progress import Progress
from seqloom.core.protocols import (
    ExtendsCatalogue,
    ListScorer,
    NamesItems,
    NewItems,
    NewRows,
    Scorer,
)
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset, HeldOut
from seqloom.evaluation.cold_scorers import (
    LastItemsScorer,
    LastPlaceScorer,
    TextNeighbours,
    random_metrics,
    select_targets,
)
from seqloom.evaluation.metrics import rank_metrics
from seqloom.evaluation.ranking import rank_targets
from seqloom.runs.folder import Run
from seqloom.runs.new_items import append_rows, catalogue_extension, known_items, no_known_items
from seqloom.text.store import TextEmbeddings, load_embeddings


class ColdRanking(Config):
    """Metrics of one ranking of cold targets."""

    among: str
    """The competitors of a cold target: `all items` or `cold items`."""
    by: str
    """The system, `random`, or `text neighbours`."""
    metrics: dict[str, float]


class ColdItems(Config):
    """The users whose target is a cold item."""

    items: int
    """Cold items of the catalogue."""
    users: int
    how: str
    """How the system scores them."""
    text: str | None
    """Text embedding of the baseline; None if the data set has none."""
    rankings: list[ColdRanking]


@dataclass(frozen=True)
class ColdScorers:
    """Scorers of a run over the whole catalogue and over its cold items alone."""

    everything: Scorer
    cold: Scorer
    how: str


def cold_scorers(run: Run, data: Dataset, progress: Progress) -> ColdScorers:
    """Adds the cold items to the catalogue as the system adds new items.

    Systems that cannot add items rank all of them behind the others.

    Raises:
        ConfigError: items were added to the run; the cold ones would have the same numbers.
    """
    if run.manifest.added_items:
        raise ConfigError(
            f"{run.path} has items that were added after training; evaluate the run as it was before"
        )
    try:
        rows = _new_rows(run, data, progress)
    except ConfigError as error:
        scorer: Scorer = LastPlaceScorer(run.scorer, data.num_cold_items)
        how = f"not at all: {error}, so they are behind all others"
    else:
        tables = append_rows(run.item_tables, rows)
        scorer = cast(ExtendsCatalogue, run.system).scorer_over(tables)
        how = _describe_path(run, rows)
    first = data.num_items - data.num_cold_items + 1
    return ColdScorers(scorer, _from_item(scorer, first, run.device), how)


def rank_cold(
    run: Run,
    data: Dataset,
    held_out: HeldOut,
    scorers: ColdScorers,
    ranks: Tensor,
    *,
    masked: bool,
    progress: Progress,
) -> ColdItems | None:
    """Ranks the cold targets; returns None if no target is cold.

    Shapes: ranks [R] int64, of the system among all items.
    """
    first = data.num_items - data.num_cold_items + 1
    rows = held_out.targets >= first
    if not rows.any():
        return None
    among_all, among_cold = select_targets(held_out, rows), select_targets(held_out, rows, first)
    settings: dict[str, Any] = {"device": run.device, "progress": progress}
    popularity = data.popularity[1:]

    def rank_among_cold(scorer: Scorer, max_len: int | None = None) -> dict[str, float]:
        cold_ranks = rank_targets(
            scorer,
            among_cold,
            popularity=popularity[first - 1 :],
            max_len=max_len,
            mask_seen=False,
            **settings,
        )
        return rank_metrics(cold_ranks.ranks)

    text = _load_text(run, data)
    seen = _count_distinct(among_all.histories) if masked else torch.zeros_like(among_all.users)
    metrics = {
        ("all items", run.system.name): rank_metrics(ranks[rows]),
        ("all items", "random"): random_metrics(data.num_items - seen),
        ("cold items", run.system.name): rank_among_cold(scorers.cold, run.system.max_len),
        ("cold items", "random"): random_metrics(torch.full_like(seen, data.num_cold_items)),
    }
    if text is not None:
        neighbours = TextNeighbours(text.items.to(run.device))
        whole = rank_targets(
            neighbours, among_all, popularity=popularity, mask_seen=masked, **settings
        )
        metrics["all items", "text neighbours"] = rank_metrics(whole.ranks)
        metrics["cold items", "text neighbours"] = rank_among_cold(
            LastItemsScorer(neighbours, first)
        )
    return ColdItems(
        items=data.num_cold_items,
        users=int(rows.sum()),
        how=scorers.how,
        text=text.name if text else None,
        rankings=[
            ColdRanking(among=among, by=by, metrics=values)
            for (among, by), values in sorted(metrics.items(), key=lambda entry: entry[0][0])
        ],
    )


def _new_rows(run: Run, data: Dataset, progress: Progress) -> NewRows:
    """Makes item-table rows of the cold items from their texts.

    Raises:
        ConfigError: the system or its configuration cannot take new items, or there is no text.
    """
    system = catalogue_extension(run)
    if system is None:
        raise ConfigError(f"{run.system.name} knows only the items of its training")
    warm = data.num_items - data.num_cold_items
    ids, items = data.item_ids[warm:], data.items.slice(warm)
    if run.system.new_items_by == "words":
        if isinstance(run.system, NamesItems):
            progress.note(f"naming {len(ids)} cold items")
        return system.rows_of(no_known_items)(NewItems(ids, items), run.item_tables)
    text = _load_text(run, data)
    if text is None:
        raise ConfigError("the data set has no text embedding")
    rows_of = system.rows_of(
        lambda: known_items(data.warm, run, load_embeddings(data.warm, text.name))
    )
    return rows_of(NewItems(ids, items, text.items[warm:]), run.item_tables)


def _describe_path(run: Run, rows: NewRows) -> str:
    if isinstance(run.system, NamesItems):
        return "by the names that it gives their texts"
    inferred = [f"{name} ({share:.0%} explained)" for name, share in rows.explained.items()]
    parts = f"; inferred by ridge regression: {', '.join(inferred)}" if inferred else ""
    return f"by their text{parts}"


def _from_item(scorer: Scorer, first: int, device: torch.device) -> Scorer:
    """Restricts a scorer to the items from number `first` on."""
    if isinstance(scorer, ListScorer):
        return scorer.restrict_to(torch.arange(first, scorer.num_items + 1, device=device))
    return LastItemsScorer(scorer, first)


def _load_text(run: Run, data: Dataset) -> TextEmbeddings | None:
    """Loads the text embedding of the run, or the default one of the data set, if it has one."""
    try:
        return load_embeddings(data, run.manifest.text["name"] if run.manifest.text else None)
    except ArtefactError:
        return None


def _count_distinct(histories: Sequences) -> Tensor:
    """Counts the distinct items of each history. Shapes: -> [R] int64."""
    rows, items = histories.flat()
    stride = int(items.max()) + 1 if len(items) else 1
    return torch.bincount((rows * stride + items).unique() // stride, minlength=len(histories))
