"""Metrics of ranks (one relevant item a user) and of recommendation lists.

All sums run in float64. Names are `hr@K`, `ndcg@K`, `mrr` and, for lists, `coverage@K`,
`popularity@K`, `popularity_percentile@K`, `novelty@K`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError, DataError

RANK_METRICS = ("hr@5", "ndcg@5", "hr@10", "ndcg@10", "hr@20", "ndcg@20", "mrr")
LIST_CUTOFFS = (5, 10, 20)
MISSED = 2**31 - 1
"""The rank of a target that masking removes from the ranking: 0 in every metric at every cut-off.
It is larger than any catalogue, so `rank <= K` is false for other readers of a rank file too."""

_NAME = re.compile(r"(hr|ndcg)@([1-9][0-9]*)")


def parse_metric(name: str) -> tuple[str, int | None]:
    """Splits `ndcg@10` into ("ndcg", 10); `mrr` has no cut-off.

    Raises:
        ConfigError: the name is not one of `hr@K`, `ndcg@K` (K at least 1) and `mrr`.
    """
    if name == "mrr":
        return "mrr", None
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"metric {name!r} is unknown; use hr@K, ndcg@K (such as ndcg@10) or mrr")
    return match.group(1), int(match.group(2))


def metric_label(name: str) -> str:
    """Formats a metric's name for display: `ndcg@10` becomes `NDCG@10`."""
    kind, cutoff = parse_metric(name)
    return kind.upper() if cutoff is None else f"{kind.upper()}@{cutoff}"


def per_user(name: str, ranks: Tensor) -> Tensor:
    """Computes the metric of each user from the rank of the user's one relevant item (1 is best).

    HR@K is 1 where rank <= K. With a single relevant item the ideal DCG is 1, so NDCG@K is
    1 / log2(1 + rank) where rank <= K. MRR is 1 / rank over the whole ranking, without a cut-off.
    All are 0 where the rank is `MISSED`.

    Source: Järvelin and Kekäläinen 2002 (DCG, log2 discount from rank 2 on); Voorhees 1999 (MRR);
    the single-item forms as in He et al. 2017 (NCF, section 4.1).

    Raises:
        ConfigError: unknown name.
        DataError: a rank is below 1.

    Shapes: ranks [R] int64 -> [R] float64.
    """
    kind, cutoff = parse_metric(name)
    _check_ranks(ranks)
    rank = ranks.double()
    if cutoff is None:
        return torch.where(ranks < MISSED, 1.0 / rank, 0.0)
    # The ideal DCG of one relevant item is 1 / log2(2) = 1, so DCG needs no normalisation.
    gain = torch.ones_like(rank) if kind == "hr" else 1.0 / torch.log2(1.0 + rank)
    return torch.where((ranks <= cutoff) & (ranks < MISSED), gain, 0.0)


def rank_metrics(ranks: Tensor, names: Sequence[str] = RANK_METRICS) -> dict[str, float]:
    """Computes the mean of each metric over users.

    Raises:
        ConfigError: unknown name.
        DataError: there are no users, or a rank is below 1.

    Shapes: ranks [R] int64.
    """
    if not len(ranks):
        raise DataError("there are no users to evaluate: the held-out part is empty")
    return {name: float(per_user(name, ranks).mean()) for name in names}


def list_metrics(
    lists: Tensor, popularity: Tensor, cutoffs: Sequence[int] = LIST_CUTOFFS
) -> dict[str, float]:
    """Computes what the lists recommend, independent of accuracy, at each cut-off K.

    - `coverage@K`: share of the catalogue that is recommended to at least one user.
    - `popularity@K`: mean number of training events of a recommended item.
    - `popularity_percentile@K`: mean popularity percentile of a recommended item: the percentage of
      the catalogue with fewer training events, items with the same number counting half. A random
      choice gives 50.
    - `novelty@K`: mean of -log2 p(item), in bits, with Laplace's rule
      p(item) = (events of item + 1) / (events + N), so that an item without events is finite.

    Source: Ge et al. 2010 (catalogue coverage); Abdollahpouri et al. 2019 (average recommendation
    popularity); Zhou et al. 2010 and Vargas and Castells 2011 (self-information as novelty).
    Differs: means are over recommended places, not over users first; both are equal if all lists are
    full, and a short list has the weight of its items. Zhou et al. use the share of
    users for p; here it is the share of training events, smoothed.

    Raises:
        DataError: the lists are narrower than a cut-off, contain numbers outside 0..N, or are all empty.

    Shapes: lists [R, K] int64 (0 where a list is short), popularity [N + 1] int64 (entry 0 unused).
    """
    num_items = len(popularity) - 1
    if lists.ndim != 2 or lists.shape[1] < max(cutoffs):
        raise DataError(
            f"lists have shape {tuple(lists.shape)}; the cut-offs need [R, {max(cutoffs)}]"
        )
    if lists.numel() and not 0 <= int(lists.min()) <= int(lists.max()) <= num_items:
        raise DataError(f"lists contain item numbers outside 0..{num_items}")
    counts = popularity.double()
    percentile = popularity_percentile(popularity)
    surprise = -torch.log2((counts + 1) / (counts[1:].sum() + num_items))
    results: dict[str, float] = {}
    for k in cutoffs:
        # How often each item is recommended: all means below are weighted by it.
        places = torch.bincount(lists[:, :k].flatten(), minlength=num_items + 1).double()
        places[0] = 0  # padding of short lists
        total = places.sum()
        if not total:
            raise DataError("no list contains an item, so there is nothing to measure")
        results[f"coverage@{k}"] = int((places > 0).sum()) / num_items
        results[f"popularity@{k}"] = float(places @ counts / total)
        results[f"popularity_percentile@{k}"] = float(places @ percentile / total)
        results[f"novelty@{k}"] = float(places @ surprise / total)
    return results


def popularity_percentile(popularity: Tensor) -> Tensor:
    """Computes the percentage of the catalogue with fewer training events, ties counting half (0 to 100).

    Shapes: popularity [N + 1] int64 -> [N + 1] float64 (entry 0 is 0).
    """
    counts = popularity[1:]
    ordered = counts.sort().values
    below = torch.searchsorted(ordered, counts)
    up_to = torch.searchsorted(ordered, counts, right=True)
    # (below + up_to) / 2 counts each tied item, the item itself included, as one half.
    percentile = 50.0 * (below + up_to).double() / max(len(counts), 1)
    return torch.cat([percentile.new_zeros(1), percentile])


def _check_ranks(ranks: Tensor) -> None:
    if len(ranks) and int(ranks.min()) < 1:
        raise DataError(f"rank {int(ranks.min())} is invalid; ranks start at 1")
