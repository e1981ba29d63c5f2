"""Ranks targets: the place of each target in the order of the items that compete with it.

A target's rank is 1 plus the number of competitors that score at least as high: ties count against
the model. Competitors are all items but the target, without the seen items where these are masked, or the
given negatives alone in the sampled protocol. Where seen items are masked, no list can hold a target that
the user had before: it is a miss (`MISSED`) under either protocol. Scores and lists come from
`inference.ranker`, so a user without a history gets the popular items, whatever the system.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from seqloom.core.batching import (
    DEVICE_EVALUATION_LIMITS,
    EVALUATION_LIMITS,
    RankingLimits,
    split_padded,
)
from seqloom.core.errors import TrainingError
from seqloom.core.progress import SILENT, Progress
from seqloom.core.protocols import ListScorer, Scorer
from seqloom.data.sequences import Sequences
from seqloom.data.store import HeldOut
from seqloom.distributed.processes import ALONE, Processes
from seqloom.evaluation.metrics import MISSED
from seqloom.inference.ranker import Ranker, best_of


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
    other: Ranks | None = None
    """The same scores ranked with the other decision about seen items; None where it was not asked for, and
    for scorers that list items, which would have to search again."""


def rank_targets(
    scorer: Scorer,
    held_out: HeldOut,
    *,
    popularity: Tensor,
    max_len: int | None = None,
    mask_seen: bool = True,
    both: bool = False,
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
        both: also rank with the other decision about seen items (`Ranks.other`), from the same scores.
        max_len: longest history that the scorer reads; the whole history is masked all the same.
        negatives: [R, C] item numbers, 0 for none: rank the target against these alone.
        list_length: how many of the best items to return for each user (full ranking only).
        keys: [N] what breaks ties in the lists (`data.tie_keys`).

    Raises:
        TrainingError: the scorer gave a score that is not finite.
    """
    ranker = Ranker(
        scorer,
        device=device or torch.device("cpu"),
        max_len=max_len,
        keys=keys,
        popularity=popularity,
    )
    decisions = [mask_seen]
    if both and not isinstance(scorer, ListScorer):
        decisions.append(not mask_seen)
    count = len(held_out.users)
    results = {
        masked: _Block(
            torch.zeros(count, dtype=torch.int64), torch.zeros(count, list_length).long()
        )
        for masked in decisions
    }
    limits = EVALUATION_LIMITS if ranker.device.type == "cpu" else DEVICE_EVALUATION_LIMITS
    lengths = held_out.histories.lengths
    own = _blocks(scorer, lengths, limits)[processes.rank :: processes.size]
    with torch.inference_mode(), progress.task("rank", sum(map(len, own)), "users") as task:
        for rows in _narrow(own, lengths, limits):
            histories = held_out.histories.select(rows)
            target = held_out.targets[rows].to(ranker.device)[:, None]  # [B, 1]
            competitors = None if negatives is None else negatives[rows].to(ranker.device)
            blocks = _rank(ranker, histories, decisions, target, competitors, list_length)
            for masked, block in blocks.items():
                results[masked].ranks[rows] = block.ranks.cpu()
                results[masked].lists[rows] = block.lists.cpu()
            task.advance(len(rows))
    made = []
    for masked, whole in results.items():
        # Each row is 0 in every process but the one that ranked it.
        ranks, lists = processes.sum(whole.ranks), processes.sum(whole.lists)
        if masked:
            ranks = ranks.masked_fill(held_out.repeats, MISSED)
        made.append(Ranks(held_out.users, held_out.targets, ranks, lists))
    return made[0] if len(made) == 1 else replace(made[0], other=made[1])


class _Block(NamedTuple):
    """Ranks and lists of some rows."""

    ranks: Tensor
    """[B] int64."""
    lists: Tensor
    """[B, k] int64."""


def _rank(
    ranker: Ranker,
    histories: Sequences,
    decisions: Sequence[bool],
    target: Tensor,
    negatives: Tensor | None,
    list_length: int,
) -> dict[bool, _Block]:
    """Ranks some rows for each decision about seen items (True: masked).

    Shapes: target [B, 1], negatives [B, C], 0 for none.
    """
    if negatives is not None:
        ranks = _rank_sampled(ranker, histories, target, negatives)
        return dict.fromkeys(decisions, _Block(ranks, ranks.new_zeros(len(ranks), list_length)))
    if ranker.searches(histories):
        hidden = histories if decisions[0] else None
        return {decisions[0]: _rank_listed(ranker, histories, hidden, target, list_length)}
    return _rank_all(ranker, histories, decisions, target, list_length)


def _blocks(scorer: Scorer, lengths: Tensor, limits: RankingLimits) -> list[Tensor]:
    """Groups rows to rank together: of similar lengths, and users without a history by themselves.

    Shapes: lengths [R].
    """
    scored = limits.rows_for(scorer.num_items)
    searched = EVALUATION_LIMITS.rows if isinstance(scorer, ListScorer) else scored
    by_length = torch.argsort(lengths, stable=True)
    new = int((lengths == 0).sum())
    parts = [by_length[:new].split(scored), by_length[new:].split(searched)]
    return [rows for part in parts for rows in part if len(rows)]


def _narrow(blocks: Sequence[Tensor], lengths: Tensor, limits: RankingLimits) -> list[Tensor]:
    """Splits blocks where a history is so long that padding the others to it would fill the memory."""
    return [part for rows in blocks for part in split_padded(rows, lengths, limits.cells)]


def _rank_all(
    ranker: Ranker,
    histories: Sequences,
    decisions: Sequence[bool],
    target: Tensor,
    list_length: int,
) -> dict[bool, _Block]:
    """Ranks in the whole catalogue, with seen items masked, unmasked, or both. Shapes: target [B, 1].

    With both, seen items are put back into what was ranked without them, which is far less work than ranking
    the catalogue again.
    """
    scores = ranker.score(histories)  # [B, N]
    _check_finite(scores)
    truth = scores.gather(1, target - 1)
    if True not in decisions:
        return {False: _place(ranker, scores, truth, list_length)}
    seen = _once(histories).to(scores.device) if False in decisions else None
    before = None if seen is None else _scores_of(scores, seen)
    ranker.hide(scores, histories)
    masked = _place(ranker, scores, truth, list_length)
    blocks = {True: masked}
    if seen is not None and before is not None:
        # A masked target does not count itself; it is one of the seen items.
        ranks = masked.ranks + (before >= truth).sum(1)
        lists = masked.lists.to(scores.device)
        best = torch.cat([_scores_of(scores, lists), before], 1)
        lists = best_of(torch.cat([lists, seen], 1), best, list_length, ranker.keys)
        blocks[False] = _Block(ranks, lists)
    return {masked: blocks[masked] for masked in decisions}


def _place(ranker: Ranker, scores: Tensor, truth: Tensor, list_length: int) -> _Block:
    """Ranks targets among the scores that are above minus infinity. Shapes: scores [B, N], truth [B, 1]."""
    ranks = (scores >= truth).sum(1)
    if not list_length:
        return _Block(ranks, torch.zeros(len(ranks), 0, dtype=torch.int64))
    return _Block(ranks, ranker.top(scores, list_length).items)


def _once(histories: Sequences) -> Tensor:
    """Returns the distinct items of each history, 0 where padded. Shapes: -> [B, S]."""
    items = histories.pad().items.sort(1).values
    again = torch.nn.functional.pad(items[:, 1:] == items[:, :-1], (1, 0), value=False)
    return items.masked_fill(again, 0)


def _scores_of(scores: Tensor, items: Tensor) -> Tensor:
    """Scores of some items of each row, minus infinity where there is none. Shapes: [B, N], [B, S]."""
    return scores.gather(1, (items - 1).clamp(min=0)).masked_fill(items == 0, -torch.inf)


def _rank_listed(
    ranker: Ranker,
    histories: Sequences,
    hidden: Sequences | None,
    target: Tensor,
    list_length: int,
) -> _Block:
    """Returns ranks by lists, and the lists. A target outside its list ties with all items outside: last.

    Shapes: target [B, 1].
    """
    scorer = ranker.scorer
    assert isinstance(scorer, ListScorer)
    best = ranker.search(histories, max(scorer.list_size, list_length), hidden)
    items, scores = best.items, best.scores
    _check_no_nan(scores)
    hit = items == target  # [B, k]
    truth = scores.masked_fill(~hit, torch.inf).amin(1, keepdim=True)
    seen = None if hidden is None else _once(hidden).to(target.device)
    last = scorer.num_items - (0 if seen is None else (seen > 0).sum(1))
    above = ((scores >= truth) & (items > 0)).sum(1)
    return _Block(torch.where(hit.any(1), above, last), items[:, :list_length])


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
