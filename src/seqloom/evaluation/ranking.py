"""From scores to ranks: where the target stands among the items that compete with it.

A target's rank is 1 plus the number of competitors that score at least as high: ties count against
the model. Competitors are all items but the target, without the seen items where these are masked, or the
given negatives alone in the sampled protocol. A target that the user has seen before is never masked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.errors import TrainingError
from seqloom.core.processes import ALONE, Processes
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import ListScorer, Scorer
from seqloom.data.sequences import Sequences
from seqloom.data.store import HeldOut
from seqloom.nn.top import top_scores

_SCORES_AT_ONCE = 4 << 20
_HISTORIES_AT_ONCE = 512


@dataclass(frozen=True)
class Ranks:
    """Ranks of one part, row by row as in the `HeldOut` they came from."""

    users: Tensor
    """[R] int64."""
    targets: Tensor
    """[R] int64, item numbers."""
    ranks: Tensor
    """[R] int64, 1 is best."""
    lists: Tensor
    """[R, k] int64, the k best item numbers; 0 where fewer than k compete."""


def rank_targets(
    scorer: Scorer,
    held_out: HeldOut,
    *,
    max_len: int | None = None,
    mask_seen: bool = True,
    negatives: Tensor | None = None,
    list_length: int = 0,
    device: torch.device | None = None,
    progress: Progress = SILENT,
    processes: Processes = ALONE,
) -> Ranks:
    """Rank every target of `held_out`. Several processes divide the users, and each gets all ranks.

    Args:
        max_len: longest history that the scorer reads; the whole history is masked all the same.
        negatives: [R, C] item numbers, 0 for none: rank the target among these alone.
        list_length: how many of the best items to return for each user (full ranking only).

    Raises:
        TrainingError: the scorer gave a score that is not finite.
    """
    device = device or torch.device("cpu")
    if isinstance(scorer, ListScorer) and negatives is None:
        return _rank_listed(
            scorer, held_out, max_len, mask_seen, list_length, device, progress, processes
        )
    count = len(held_out.users)
    ranks = torch.zeros(count, dtype=torch.int64)
    lists = torch.zeros(count, list_length, dtype=torch.int64)
    by_length = torch.argsort(held_out.histories.lengths, stable=True)
    at_once = max(1, min(_HISTORIES_AT_ONCE, _SCORES_AT_ONCE // scorer.num_items))
    own = by_length.split(at_once)[processes.rank :: processes.size]
    with torch.inference_mode(), progress.task("rank", sum(map(len, own)), "users") as task:
        for rows in own:
            histories = held_out.histories.select(rows)
            batch = histories.pad(max_len).to(device)
            scores = scorer.score(batch.items, batch.lengths)  # [B, N]
            _check_finite(scores)
            column = (held_out.targets[rows] - 1).to(device)
            if negatives is not None:
                ranks[rows] = _rank_among(scores, column, negatives[rows].to(device)).cpu()
            else:
                if mask_seen:
                    mask_items(scores, histories, keep=column)
                truth = scores.gather(1, column[:, None])
                ranks[rows] = (scores >= truth).sum(1).cpu()
                if list_length:
                    lists[rows] = best_items(scores, list_length).cpu()
            task.advance(len(rows))
    return _together(held_out, ranks, lists, processes)


def _rank_listed(
    scorer: ListScorer,
    held_out: HeldOut,
    max_len: int | None,
    mask_seen: bool,
    list_length: int,
    device: torch.device,
    progress: Progress,
    processes: Processes,
) -> Ranks:
    """Rank by lists. A target that is in none ties with all that are in none: it has the last rank."""
    count = len(held_out.users)
    ranks = torch.zeros(count, dtype=torch.int64)
    lists = torch.zeros(count, list_length, dtype=torch.int64)
    by_length = torch.argsort(held_out.histories.lengths, stable=True)
    k = max(scorer.list_size, list_length)
    own = by_length.split(_HISTORIES_AT_ONCE)[processes.rank :: processes.size]
    with torch.inference_mode(), progress.task("rank", sum(map(len, own)), "users") as task:
        for rows in own:
            histories = held_out.histories.select(rows)
            batch = histories.pad(max_len).to(device)
            target = held_out.targets[rows].to(device)[:, None]
            seen = histories.pad().items.to(device) if mask_seen else None
            if seen is not None:
                seen = seen.masked_fill(seen == target, 0)
            items, scores = scorer.best(batch.items, batch.lengths, k, seen)
            _check_no_nan(scores)
            hit = items == target  # [B, k]
            truth = scores.masked_fill(~hit, float("inf")).amin(1, keepdim=True)
            last = scorer.num_items - _distinct(seen, len(rows), device)
            listed = ((scores >= truth) & (items > 0)).sum(1)
            ranks[rows] = torch.where(hit.any(1), listed, last).cpu()
            lists[rows] = items[:, :list_length].cpu()
            task.advance(len(rows))
    return _together(held_out, ranks, lists, processes)


def _together(held_out: HeldOut, ranks: Tensor, lists: Tensor, processes: Processes) -> Ranks:
    """All rows, each of which is 0 in every process but the one that ranked it."""
    ranks, lists = processes.sum(ranks), processes.sum(lists)
    return Ranks(held_out.users, held_out.targets, ranks, lists)


def _distinct(items: Tensor | None, count: int, device: torch.device) -> Tensor:
    """How many different items each row holds, 0 apart. Shapes: [B, S] -> [B]."""
    if items is None or not items.shape[1]:
        return torch.zeros(count, dtype=torch.int64, device=device)
    ordered = items.sort(1).values
    new = torch.nn.functional.pad(ordered[:, 1:] != ordered[:, :-1], (1, 0), value=True)
    return (new & (ordered > 0)).sum(1)


def mask_items(scores: Tensor, histories: Sequences, keep: Tensor | None = None) -> None:
    """Set the scores of each row's own items to minus infinity, in place.

    Args:
        keep: [B] one column of each row that keeps its score.

    Shapes: scores [B, N].
    """
    rows, items = (part.to(scores.device) for part in histories.flat())
    kept = None if keep is None else scores.gather(1, keep[:, None])
    scores[rows, items - 1] = float("-inf")
    if keep is not None and kept is not None:
        scores.scatter_(1, keep[:, None], kept)


def best_items(scores: Tensor, k: int) -> Tensor:
    """The k best item numbers of each row, best first, 0 where nothing finite is left.

    Shapes: [B, N] -> [B, k] int64.
    """
    values, columns = top_scores(scores, min(k, scores.shape[1]))
    items = torch.where(values == float("-inf"), 0, columns + 1)
    return torch.nn.functional.pad(items, (0, k - items.shape[1]))


def _rank_among(scores: Tensor, column: Tensor, negatives: Tensor) -> Tensor:
    truth = scores.gather(1, column[:, None])
    against = scores.gather(1, (negatives - 1).clamp(min=0))
    return 1 + ((against >= truth) & (negatives > 0)).sum(1)


def _check_finite(scores: Tensor) -> None:
    if not bool(torch.isfinite(scores.sum())):
        raise _diverged()


def _check_no_nan(scores: Tensor) -> None:
    """A list's scores may be minus infinity, where there is no item."""
    if bool(torch.isnan(scores).any()):
        raise _diverged()


def _diverged() -> TrainingError:
    return TrainingError(
        "the model gave scores that are not finite; it has diverged: train again with a lower "
        "learning_rate"
    )
