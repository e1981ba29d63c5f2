"""Checks whether the events of a data set are in the order of time, and what depends on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy import sparse
from torch import Tensor

from seqloom.core.errors import SeqloomError
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import Scorer
from seqloom.data.order import OrderTally, id_ranks, training_after_test
from seqloom.data.order_checks import (
    DUPLICATES_WARNING,
    LEAK_WARNING,
    SHUFFLE_WARNING,
    OrderCheck,
    check_facts,
    judged,
    unknown,
)
from seqloom.data.store import Dataset
from seqloom.data.tie_keys import tie_keys
from seqloom.data.ties import TieKeys, shuffled_positions
from seqloom.data.twins import duplicate_texts, duplicate_users
from seqloom.evaluation.metrics import per_user
from seqloom.evaluation.ranking import rank_targets
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.registry import config_class, system_class

SHUFFLES = 3
"""Shuffles of ties that the bound is taken over; their seeds are 0, 1, ..."""
YARDSTICKS = ("popularity", "itemknn")
METRICS = ("ndcg@10", "hr@10")
_TRANSITIONS = "last-item transitions"


@dataclass(frozen=True)
class TieBound:
    """What the order within ties does to a yardstick."""

    name: str
    metric: str
    stored: float
    """In the order of the data set."""
    shuffled: list[float]
    """In each shuffle."""

    @property
    def change(self) -> float:
        """The stored figure beyond the mean of the shuffles, as a share of the latter."""
        mean = float(np.mean(self.shuffled))
        return (self.stored - mean) / mean if mean else 0.0

    @property
    def outside(self) -> bool:
        """Whether the stored figure is outside the range of the shuffles."""
        return not min(self.shuffled) <= self.stored <= max(self.shuffled)


def check_order(
    data: Dataset, *, yardsticks: bool = True, progress: Progress = SILENT
) -> list[OrderCheck]:
    """Returns all checks of the order of a data set.

    Args:
        yardsticks: whether to train and rank yardsticks over shuffles of the ties, which takes longest.
    """
    options = data.manifest.options
    # Data sets that are merged were checked one by one.
    allowed = bool(options.get("allow_sorted")) or "origins" in options
    checks = [
        *check_facts(order_facts(data), allow_sorted=allowed),
        _check_users(data),
        _check_texts(data),
        _check_leaks(data),
    ]
    return [*checks, _check_shuffles(data, progress)] if yardsticks else checks


def order_facts(data: Dataset) -> dict[str, Any]:
    """Counts what `prepare` counts, from the stored events."""
    events, items = data.events, data.events.items.numpy() - 1
    times = None if events.timestamps is None else events.timestamps.numpy()
    ranks = id_ranks(pl.Series(data.item_ids, dtype=pl.String))
    facts: dict[str, Any] = {
        "order": OrderTally.of(items, events.offsets.numpy(), ranks, times).facts(ranks),
        "repeats": data.repeats.facts(),
        "mask_seen": data.masks_seen,
    }
    for part in ("valid", "test"):
        facts[f"{part}_targets"] = int((getattr(events, part) >= 0).sum())
    if data.tied is not None:
        facts["ties"] = {
            "events": int(data.tied.sum()),
            "of": data.num_events,
            **{p: int(data.tied[at[at >= 0]].sum()) for p, at in _targets(data).items()},
        }
    return facts


def _targets(data: Dataset) -> dict[str, Tensor]:
    return {"valid": data.events.valid, "test": data.events.test}


def _check_users(data: Dataset) -> OrderCheck:
    twins = duplicate_users(data.events.items.numpy() - 1, data.events.offsets.numpy())
    sentence = (
        f"{int(twins.sum()):,} of {data.num_users:,} users have 5 events or more and exactly the sequence of "
        "another user"
    )
    share = float(twins.mean()) if len(twins) else 0.0
    return judged("duplicate-users", share, DUPLICATES_WARNING, sentence, count=int(twins.sum()))


def _check_texts(data: Dataset) -> OrderCheck:
    name = "duplicate-items"
    columns = [column for column in data.items.column_names if column != "item_id"]
    if not columns:
        return unknown(name, DUPLICATES_WARNING, "the items have no text")
    rows = zip(*(data.items.column(column).to_pylist() for column in columns), strict=True)
    twins = duplicate_texts(" ".join(text or "" for text in row) for row in rows)
    sentence = (
        f"{int(twins.sum()):,} of {data.num_items:,} items have the same text as another one, except for "
        "case and punctuation"
    )
    share = float(twins.mean()) if len(twins) else 0.0
    return judged(name, share, DUPLICATES_WARNING, sentence, count=int(twins.sum()))


def _check_leaks(data: Dataset) -> OrderCheck:
    """The protocol's own leak: training events of others after a user's test event."""
    name, events = "training-after-test", data.events
    test = events.test[events.test >= 0].numpy()
    if events.timestamps is None or not len(test):
        return unknown(name, LEAK_WARNING, "times are not known, or there is no test target")
    users = _users(data)
    in_training = np.arange(data.num_events) < events.train_end.numpy()[users]
    later = training_after_test(events.timestamps.numpy(), in_training, users, test)
    concerned = float((later > 0).mean())
    sentence = (
        f"on average {later.mean():.1%} of the other users' training events are later than a user's test "
        f"event; {concerned:.1%} of the test users have such events"
    )
    check = judged(name, float(later.mean()), LEAK_WARNING, sentence)
    if check.verdict == "ok":
        return check
    advice = (
        ": training sees the future of the catalogue, which a split by time (temporal) does not"
    )
    return check.model_copy(update={"sentence": sentence + advice})


def _users(data: Dataset) -> np.ndarray:
    return np.repeat(np.arange(data.num_users), np.diff(data.events.offsets.numpy()))


def _check_shuffles(data: Dataset, progress: Progress) -> OrderCheck:
    """What a shuffle within ties does to yardsticks: a bound on what their order can do."""
    name = "order-within-ties"
    if data.tied is None:
        return unknown(name, SHUFFLE_WARNING, "times are not known, so neither are ties")
    if not bool(data.tied.any()) or not len(data.held_out("test").users):
        return judged(name, 0.0, SHUFFLE_WARNING, "no events are tied, or there is no test target")
    try:
        bounds = tie_bounds(data, progress)
    except SeqloomError as error:
        return unknown(name, SHUFFLE_WARNING, str(error))
    worst = max(bounds, key=lambda bound: (bound.outside, abs(bound.change)))
    shown = "; ".join(
        f"{bound.name} {bound.stored:.4f}, shuffled {min(bound.shuffled):.4f} to {max(bound.shuffled):.4f}"
        for bound in bounds
        if bound.metric == METRICS[0]
    )
    sentence = (
        f"with {SHUFFLES} shuffles within ties, test NDCG@10 is: {shown}; the largest change is that of "
        f"{worst.name} ({worst.metric}), {worst.change:+.1%} by the stored order"
    )
    return judged(name, abs(worst.change) if worst.outside else 0.0, SHUFFLE_WARNING, sentence)


def tie_bounds(data: Dataset, progress: Progress = SILENT) -> list[TieBound]:
    """Ranks yardsticks in the stored order and in `SHUFFLES` orders within ties."""
    data = data.warm
    orders = [data, *(shuffle_ties(data, seed) for seed in range(SHUFFLES))]
    figures: dict[str, list[dict[str, float]]] = {}
    with progress.task("yardsticks over shuffled ties", len(orders), "orders") as task:
        for each in orders:
            for name, scorer, max_len in _yardsticks(each):
                figures.setdefault(name, []).append(_measure(each, scorer, max_len))
            task.advance()
    return [
        TieBound(name, metric, made[0][metric], [each[metric] for each in made[1:]])
        for name, made in figures.items()
        for metric in METRICS
    ]


def shuffle_ties(data: Dataset, seed: int) -> Dataset:
    """Returns the data set with each tie in a random order, as `prepare` with `ties='shuffle'` orders it.

    The places of the targets stay; which item stands there changes where they are tied.
    """
    joins = data.events.joins
    assert joins is not None
    items, users = data.events.items.numpy(), _users(data)
    keys = TieKeys(tie_keys(data.user_ids).numpy(), data.tie_keys.numpy(), seed)
    order = shuffled_positions(joins.numpy(), users, items - 1, keys)
    events = replace(data.events, items=torch.from_numpy(items[order]))
    return Dataset(data.path, data.manifest, events, data.num_items)


def _yardsticks(data: Dataset) -> list[tuple[str, Scorer, int | None]]:
    """Returns name, scorer and longest history of systems that need no training."""
    made: list[tuple[str, Scorer, int | None]] = []
    for name in YARDSTICKS:
        system = system_class(name)(config_class(name)(), Sizes(num_items=data.num_items))
        system.initialise(TrainingData(data))
        made.append((name, system.scorer(), system.max_len))
    made.append((_TRANSITIONS, TransitionScorer(data), 1))
    return made


class TransitionScorer:
    """Scores an item by how often it follows the last item of the history in the training part."""

    def __init__(self, data: Dataset) -> None:
        self.num_items = data.num_items
        rows, items = (part.numpy() for part in data.train.flat())
        inside = rows[1:] == rows[:-1]
        pairs = (items[:-1][inside] - 1, items[1:][inside] - 1)
        shape = (data.num_items, data.num_items)
        self._counts = sparse.coo_array((np.ones(len(pairs[0])), pairs), shape).tocsr()

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Counts transitions. Shapes: [B, L], [B] -> [B, N]."""
        last = items.gather(1, (lengths - 1).clamp(min=0)[:, None])[:, 0]
        rows = self._counts[(last - 1).clamp(min=0).numpy()]
        return torch.from_numpy(rows.toarray()).float()


def _measure(data: Dataset, scorer: Scorer, max_len: int | None) -> dict[str, float]:
    ranks = rank_targets(
        scorer,
        data.held_out("test"),
        popularity=data.popularity[1:],
        max_len=max_len,
        mask_seen=data.masks_seen,
    ).ranks
    return {metric: float(per_user(metric, ranks).mean()) for metric in METRICS}
