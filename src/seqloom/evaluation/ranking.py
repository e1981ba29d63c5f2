"""From scores to ranks: where the target stands among the items that compete with it.

A target's rank is 1 plus the number of competitors that score at least as high: ties count against
the model. Competitors are all items but the target, without the seen items where these are masked, or the
given negatives alone in the sampled protocol. Where seen items are masked, no list can hold a target that
the user had before: it is a miss (`MISSED`) under either protocol. A user without a history is given
what is popular, whatever the system.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.batching import split_padded
from seqloom.core.errors import TrainingError
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import ListScorer, Scorer
from seqloom.data.sequences import PaddedBatch, Sequences
from seqloom.data.store import HeldOut
from seqloom.distributed.processes import ALONE, Processes
from seqloom.evaluation.metrics import MISSED
from seqloom.inference.cold_start import Popular
from seqloom.inference.top_k import top_scores

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
    """[R] int64, 1 is best; `MISSED` where masking takes the target out."""
    lists: Tensor
    """[R, k] int64, the k best item numbers; 0 where fewer than k compete."""


def rank_targets(
    scorer: Scorer,
    held_out: HeldOut,
    *,
    popularity: Tensor,
    max_len: int | None = None,
    mask_seen: bool = True,
    negatives: Tensor | None = None,
    list_length: int = 0,
    keys: Tensor | None = None,
    device: torch.device | None = None,
    progress: Progress = SILENT,
    processes: Processes = ALONE,
) -> Ranks:
    """Rank every target of `held_out`. Several processes divide the users, and each gets all ranks.

    Args:
        popularity: [N] training events of the scorer's items, which rank for users without a history.
        mask_seen: take the items of a user's history out of the ranking and the list. A target among
            them is a miss, whatever the scorer; it would otherwise compete with unseen items alone.
        max_len: longest history that the scorer reads; the whole history is masked all the same.
        negatives: [R, C] item numbers, 0 for none: rank the target among these alone.
        list_length: how many of the best items to return for each user (full ranking only).
        keys: [N] what breaks ties in the lists (`data.tie_keys`).

    Raises:
        TrainingError: the scorer gave a score that is not finite.
    """
    count = len(held_out.users)
    ranks = torch.zeros(count, dtype=torch.int64)
    lists = torch.zeros(count, list_length, dtype=torch.int64)
    own = _blocks(scorer, held_out.histories.lengths)[processes.rank :: processes.size]
    with torch.inference_mode(), progress.task("rank", sum(map(len, own)), "users") as task:
        for rows in _narrow(own, held_out.histories.lengths):
            histories = held_out.histories.select(rows)
            batch = histories.pad(max_len).to(device or torch.device("cpu"))
            target = held_out.targets[rows].to(batch.items.device)[:, None]  # [B, 1]
            by = scorer if int(histories.lengths[0]) else Popular(popularity)
            if negatives is not None:
                among = negatives[rows].to(target.device)
                found = _rank_among(by, batch, target, among)
            elif isinstance(by, ListScorer):
                seen = histories.pad().items.to(target.device) if mask_seen else None
                found, lists[rows] = _rank_listed(by, batch, target, seen, list_length)
            else:
                hidden = histories if mask_seen else None
                found, lists[rows] = _rank_all(by, batch, target, hidden, list_length, keys)
            ranks[rows] = found.cpu()
            task.advance(len(rows))
    # Each row is 0 in every process but the one that ranked it.
    ranks, lists = processes.sum(ranks), processes.sum(lists)
    if mask_seen:
        ranks = ranks.masked_fill(held_out.repeats, MISSED)
    return Ranks(held_out.users, held_out.targets, ranks, lists)


def _blocks(scorer: Scorer, lengths: Tensor) -> list[Tensor]:
    """Row numbers to be ranked together: of similar lengths, and users without a history by themselves.

    Shapes: lengths [R].
    """
    at_once = max(1, min(_HISTORIES_AT_ONCE, _SCORES_AT_ONCE // scorer.num_items))
    by_length = torch.argsort(lengths, stable=True)
    new = int((lengths == 0).sum())
    known = _HISTORIES_AT_ONCE if isinstance(scorer, ListScorer) else at_once
    parts = [by_length[:new].split(at_once), by_length[new:].split(known)]
    return [rows for part in parts for rows in part if len(rows)]


def _narrow(blocks: Sequence[Tensor], lengths: Tensor) -> list[Tensor]:
    """The blocks, in parts where a history is so long that padding the others to it would fill the memory."""
    return [part for rows in blocks for part in split_padded(rows, lengths, _SCORES_AT_ONCE)]


def _rank_all(
    scorer: Scorer,
    batch: PaddedBatch,
    target: Tensor,
    hidden: Sequences | None,
    list_length: int,
    keys: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Ranks among the whole catalogue, and lists. Shapes: target [B, 1] -> [B], [B, k]."""
    scores = scorer.score(batch.items, batch.lengths)  # [B, N]
    _check_finite(scores)
    if hidden is not None:
        mask_items(scores, hidden)
    ranks = (scores >= scores.gather(1, target - 1)).sum(1)
    if not list_length:
        return ranks, torch.zeros(len(ranks), 0, dtype=torch.int64)
    return ranks, best_items(scores, list_length, keys).cpu()


def _rank_listed(
    scorer: ListScorer,
    batch: PaddedBatch,
    target: Tensor,
    seen: Tensor | None,
    list_length: int,
) -> tuple[Tensor, Tensor]:
    """Ranks by lists, and the lists. A target that is in none ties with all that are in none: last.

    Shapes: target [B, 1], seen [B, S] -> [B], [B, k].
    """
    k = max(scorer.list_size, list_length)
    items, scores = scorer.best(batch.items, batch.lengths, k, seen)
    _check_no_nan(scores)
    hit = items == target  # [B, k]
    truth = scores.masked_fill(~hit, float("inf")).amin(1, keepdim=True)
    last = scorer.num_items - _distinct(seen, len(target), target.device)
    above = ((scores >= truth) & (items > 0)).sum(1)
    return torch.where(hit.any(1), above, last), items[:, :list_length].cpu()


def _rank_among(scorer: Scorer, batch: PaddedBatch, target: Tensor, negatives: Tensor) -> Tensor:
    """Ranks among the negatives. Shapes: target [B, 1], negatives [B, C], 0 for none -> [B]."""
    candidates = torch.cat([target, negatives], 1)
    if isinstance(scorer, ListScorer):
        scores = scorer.score_candidates(batch.items, batch.lengths, candidates)
        _check_no_nan(scores)
    else:
        every = scorer.score(batch.items, batch.lengths)
        _check_finite(every)
        scores = every.gather(1, (candidates - 1).clamp(min=0))
    against = scores[:, 1:] >= scores[:, :1]
    return 1 + (against & (negatives > 0)).sum(1)


def _distinct(items: Tensor | None, count: int, device: torch.device) -> Tensor:
    """How many different items each row holds, 0 apart. Shapes: [B, S] -> [B]."""
    if items is None or not items.shape[1]:
        return torch.zeros(count, dtype=torch.int64, device=device)
    ordered = items.sort(1).values
    new = torch.nn.functional.pad(ordered[:, 1:] != ordered[:, :-1], (1, 0), value=True)
    return (new & (ordered > 0)).sum(1)


def mask_items(scores: Tensor, histories: Sequences) -> None:
    """Set the scores of each row's own items to minus infinity, in place. Shapes: scores [B, N]."""
    rows, items = (part.to(scores.device) for part in histories.flat())
    scores[rows, items - 1] = float("-inf")


def best_items(scores: Tensor, k: int, keys: Tensor | None = None) -> Tensor:
    """The k best item numbers of each row, best first, 0 where nothing finite is left.

    Shapes: scores [B, N], keys [N] as `top_scores` takes them -> [B, k] int64.
    """
    values, columns = top_scores(scores, min(k, scores.shape[1]), keys)
    items = torch.where(values == float("-inf"), 0, columns + 1)
    return torch.nn.functional.pad(items, (0, k - items.shape[1]))


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
