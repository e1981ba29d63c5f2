"""Ranks targets: the place of each target in the order of the items that compete with it.

A target's rank is 1 plus the number of competitors that score at least as high: ties count against
the model. Competitors are all items but the target, without the seen items where these are masked, or the
given negatives alone in the sampled protocol. Where seen items are masked, no list can hold a target that
the user had before: it is a miss (`MISSED`) under either protocol. Scores and lists come from
`inference.ranker`, so a user without a history gets the popular items, whatever the system.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.batching import EVALUATION_LIMITS, split_padded
from seqloom.core.errors import TrainingError
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import ListScorer, Scorer
from seqloom.data.sequences import Sequences
from seqloom.data.store import HeldOut
from seqloom.distributed.processes import ALONE, Processes
from seqloom.evaluation.metrics import MISSED
from seqloom.inference.ranker import Ranker


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
    """Ranks every target of `held_out`. Several processes divide the users, and each gets all ranks.

    Args:
        popularity: [N] training events of the scorer's items, which rank for users without a history.
        mask_seen: take the items of a user's history out of the ranking and the list. A target that
            is one of them is a miss, whatever the scorer; it would otherwise compete with unseen items alone.
        max_len: longest history that the scorer reads; the whole history is masked all the same.
        negatives: [R, C] item numbers, 0 for none: rank the target against these alone.
        list_length: how many of the best items to return for each user (full ranking only).
        keys: [N] what breaks ties in the lists (`data.tie_keys`).

    Raises:
        TrainingError: the scorer gave a score that is not finite.
    """
    count = len(held_out.users)
    ranks = torch.zeros(count, dtype=torch.int64)
    lists = torch.zeros(count, list_length, dtype=torch.int64)
    ranker = Ranker(
        scorer,
        device=device or torch.device("cpu"),
        max_len=max_len,
        keys=keys,
        popularity=popularity,
    )
    own = _blocks(scorer, held_out.histories.lengths)[processes.rank :: processes.size]
    with torch.inference_mode(), progress.task("rank", sum(map(len, own)), "users") as task:
        for rows in _narrow(own, held_out.histories.lengths):
            histories = held_out.histories.select(rows)
            hidden = histories if mask_seen else None
            target = held_out.targets[rows].to(ranker.device)[:, None]  # [B, 1]
            if negatives is not None:
                competitors = negatives[rows].to(ranker.device)
                block = _rank_sampled(ranker, histories, target, competitors)
            elif ranker.searches(histories):
                block, best = _rank_listed(ranker, histories, hidden, target, list_length)
                lists[rows] = best
            else:
                block, best = _rank_all(ranker, histories, hidden, target, list_length)
                lists[rows] = best
            ranks[rows] = block.cpu()
            task.advance(len(rows))
    # Each row is 0 in every process but the one that ranked it.
    ranks, lists = processes.sum(ranks), processes.sum(lists)
    if mask_seen:
        ranks = ranks.masked_fill(held_out.repeats, MISSED)
    return Ranks(held_out.users, held_out.targets, ranks, lists)


def _blocks(scorer: Scorer, lengths: Tensor) -> list[Tensor]:
    """Groups rows to rank together: of similar lengths, and users without a history by themselves.

    Shapes: lengths [R].
    """
    scored = EVALUATION_LIMITS.rows_for(scorer.num_items)
    searched = EVALUATION_LIMITS.rows if isinstance(scorer, ListScorer) else scored
    by_length = torch.argsort(lengths, stable=True)
    new = int((lengths == 0).sum())
    parts = [by_length[:new].split(scored), by_length[new:].split(searched)]
    return [rows for part in parts for rows in part if len(rows)]


def _narrow(blocks: Sequence[Tensor], lengths: Tensor) -> list[Tensor]:
    """Splits blocks where a history is so long that padding the others to it would fill the memory."""
    cells = EVALUATION_LIMITS.cells
    return [part for rows in blocks for part in split_padded(rows, lengths, cells)]


def _rank_all(
    ranker: Ranker,
    histories: Sequences,
    hidden: Sequences | None,
    target: Tensor,
    list_length: int,
) -> tuple[Tensor, Tensor]:
    """Returns ranks in the whole catalogue, and lists. Shapes: target [B, 1] -> [B], [B, k]."""
    scores = ranker.score(histories)  # [B, N]
    _check_finite(scores)
    ranker.hide(scores, hidden)
    ranks = (scores >= scores.gather(1, target - 1)).sum(1)
    if not list_length:
        return ranks, torch.zeros(len(ranks), 0, dtype=torch.int64)
    return ranks, ranker.top(scores, list_length).items.cpu()


def _rank_listed(
    ranker: Ranker,
    histories: Sequences,
    hidden: Sequences | None,
    target: Tensor,
    list_length: int,
) -> tuple[Tensor, Tensor]:
    """Returns ranks by lists, and the lists. A target outside its list ties with all items outside: last.

    Shapes: target [B, 1] -> [B], [B, k].
    """
    scorer = ranker.scorer
    assert isinstance(scorer, ListScorer)
    best = ranker.search(histories, max(scorer.list_size, list_length), hidden)
    items, scores = best.items, best.scores
    _check_no_nan(scores)
    hit = items == target  # [B, k]
    truth = scores.masked_fill(~hit, torch.inf).amin(1, keepdim=True)
    seen = None if hidden is None else hidden.pad().items.to(target.device)
    last = scorer.num_items - _distinct(seen, len(target), target.device)
    above = ((scores >= truth) & (items > 0)).sum(1)
    return torch.where(hit.any(1), above, last), items[:, :list_length].cpu()


def _rank_sampled(
    ranker: Ranker, histories: Sequences, target: Tensor, negatives: Tensor
) -> Tensor:
    """Returns ranks against the negatives. Shapes: target [B, 1], negatives [B, C], 0 for none -> [B]."""
    candidates = torch.cat([target, negatives], 1)
    if ranker.searches(histories):
        scores = ranker.score_candidates(histories, candidates)
        _check_no_nan(scores)
    else:
        every = ranker.score(histories)
        _check_finite(every)
        scores = every.gather(1, (candidates - 1).clamp(min=0))
    against = scores[:, 1:] >= scores[:, :1]
    return 1 + (against & (negatives > 0)).sum(1)


def _distinct(items: Tensor | None, count: int, device: torch.device) -> Tensor:
    """Counts the different items of each row, without 0. Shapes: [B, S] -> [B]."""
    if items is None or not items.shape[1]:
        return torch.zeros(count, dtype=torch.int64, device=device)
    ordered = items.sort(1).values
    new = torch.nn.functional.pad(ordered[:, 1:] != ordered[:, :-1], (1, 0), value=True)
    return (new & (ordered > 0)).sum(1)


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
