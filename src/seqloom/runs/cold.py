"""How a run ranks items that training never met, beside a random order and the text alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.progress import Progress
from seqloom.core.protocols import ExtendsCatalogue, Scorer, VectorScorer
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset, HeldOut
from seqloom.evaluation.cold import (
    BehindAllOthers,
    LastItems,
    TextNeighbours,
    WithNewVectors,
    only,
    random_metrics,
)
from seqloom.evaluation.metrics import rank_metrics
from seqloom.evaluation.ranking import rank_targets
from seqloom.nn.ridge import fit_ridge
from seqloom.runs.folder import Run, load_run
from seqloom.systems.idgenrec.system import IDGenRec
from seqloom.text.store import TextEmbeddings, load_embeddings


class ColdRanking(Config):
    """Metrics of one way to rank cold targets."""

    among: str
    """`all items`, or `cold items`: what a cold target competes with."""
    by: str
    """The system, `random`, or `text neighbours`."""
    metrics: dict[str, float]


class ColdItems(Config):
    """The users whose target is a cold item."""

    items: int
    """Cold items of the catalogue."""
    users: int
    how: str
    """By which path the system scores them."""
    text: str | None
    """The text embedding of the yardstick; None where the data set has none."""
    rankings: list[ColdRanking]


@dataclass(frozen=True)
class ColdScorers:
    """A run over the whole catalogue, and over its cold items alone."""

    everything: Scorer
    cold: Scorer
    how: str


def cold_scorers(run: Run, data: Dataset, progress: Progress) -> ColdScorers:
    """Take the cold items into the catalogue by the system's own path for new items.

    Systems without one put all of them behind every other item.

    Raises:
        ConfigError: items were added to the run, whose numbers the cold ones would take.
    """
    if run.manifest.added_items:
        raise ConfigError(
            f"{run.path} has items that were added after training; evaluate the run as it was before"
        )
    warm = data.num_items - data.num_cold_items
    if isinstance(run.system, IDGenRec):
        progress.note(f"naming {data.num_cold_items} cold items")
        return _named(run, data.items.slice(warm))
    vectors, how = _new_vectors(run, data, warm)
    if vectors is None:
        scorer: Scorer = BehindAllOthers(run.scorer, data.num_cold_items)
    else:
        assert isinstance(run.scorer, VectorScorer)
        scorer = WithNewVectors(run.scorer, vectors)
    return ColdScorers(scorer, LastItems(scorer, warm + 1), how)


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
    """The rankings of cold targets; None where no target is cold.

    Shapes: ranks [R] int64, of the system among all items.
    """
    first = data.num_items - data.num_cold_items + 1
    rows = held_out.targets >= first
    if not rows.any():
        return None
    among_all, among_cold = only(held_out, rows), only(held_out, rows, first)
    settings: dict[str, Any] = {"device": run.device, "progress": progress}

    def by_cold(scorer: Scorer, max_len: int | None = None) -> dict[str, float]:
        found = rank_targets(scorer, among_cold, max_len=max_len, mask_seen=False, **settings)
        return rank_metrics(found.ranks)

    text = _text(run, data)
    seen = _distinct(among_all.histories) if masked else torch.zeros_like(among_all.users)
    count = torch.full_like(among_all.users, data.num_cold_items)
    found = {
        ("all items", run.system.name): rank_metrics(ranks[rows]),
        ("all items", "random"): random_metrics(data.num_items - seen),
        ("cold items", run.system.name): by_cold(scorers.cold, run.system.max_len),
        ("cold items", "random"): random_metrics(count),
    }
    if text is not None:
        neighbours = TextNeighbours(text.items.to(run.device))
        whole = rank_targets(neighbours, among_all, mask_seen=masked, **settings)
        found["all items", "text neighbours"] = rank_metrics(whole.ranks)
        found["cold items", "text neighbours"] = by_cold(LastItems(neighbours, first))
    return ColdItems(
        items=data.num_cold_items,
        users=int(rows.sum()),
        how=scorers.how,
        text=text.name if text else None,
        rankings=[
            ColdRanking(among=among, by=by, metrics=metrics)
            for (among, by), metrics in sorted(found.items(), key=lambda entry: entry[0][0])
        ],
    )


def _named(run: Run, new: pa.Table) -> ColdScorers:
    """IDGenRec names the items by their texts; the run itself stays as it is."""
    grown = load_run(run.path, device=str(run.device))
    first = len(grown.item_ids) + 1
    grown.add_items(new)
    assert isinstance(grown.system, IDGenRec)
    return ColdScorers(
        grown.scorer,
        grown.system.scorer_from(first),
        "the generator names them by their texts",
    )


def _new_vectors(run: Run, data: Dataset, warm: int) -> tuple[Tensor | None, str]:
    """Vectors of the cold items, and how they came about. Shapes: -> [M, D']."""
    system, scorer = run.system, run.scorer
    able = isinstance(system, ExtendsCatalogue) or bool(system.item_tables)
    if not able or not isinstance(scorer, VectorScorer):
        return (
            None,
            "not at all: the system knows items by number alone, so they are behind all others",
        )
    text = _text(run, data)
    if text is None:
        return None, "not at all: the data set has no text embedding, so they are behind all others"
    new = text.items[warm:].to(run.device)
    if isinstance(system, ExtendsCatalogue):
        try:
            into = system.item_vector_map()
        except ConfigError as error:
            return None, f"not at all: {error}"
        numbers = torch.zeros(len(new), dtype=torch.int64, device=run.device)
        return into(new, numbers), "text through the adapter; id part inferred from the text"
    known = torch.nonzero(data.popularity[1 : warm + 1] > 0).flatten()
    rows = scorer.item_vectors[known.to(scorer.item_vectors.device)].float()
    fitted = fit_ridge(text.items[known].to(rows.device), rows)
    return fitted(new.to(rows.device)), "rows inferred from the text by ridge regression"


def _text(run: Run, data: Dataset) -> TextEmbeddings | None:
    """The run's text embedding, else the data set's default one, if there is any."""
    try:
        return load_embeddings(data, run.manifest.text["name"] if run.manifest.text else None)
    except ArtefactError:
        return None


def _distinct(histories: Sequences) -> Tensor:
    """How many different items each history holds. Shapes: -> [R] int64."""
    rows, items = histories.flat()
    stride = int(items.max()) + 1 if len(items) else 1
    return torch.bincount((rows * stride + items).unique() // stride, minlength=len(histories))
