"""The data that an ensemble's weights are fitted on: for each validation user the target, the members'
best items, and a sample of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.batching import EVALUATION_LIMITS
from seqloom.core.errors import TrainingError
from seqloom.core.progress import SILENT, Progress
from seqloom.core.random import generator
from seqloom.data.sequences import PaddedBatch
from seqloom.data.store import Dataset, HeldOut
from seqloom.data.tie_keys import tie_keys
from seqloom.systems.score_sum import MemberScorer

_NUMBERS_HELD = 1 << 27
"""Maximum number of stored scores, 512 MiB."""
_BEST = 2.0
"""Key of a member's best items; keys of the rest lie in [0, 1)."""


@dataclass(frozen=True)
class Candidates:
    """Scores of some items of each user; of unseen ones where seen items are masked."""

    scores: Tensor
    """[U, C, M] float32 of M members; column 0 is the target."""
    log_count: Tensor
    """[U, C] float32, the logarithm of the number of items that a column represents: 0 for the target and
    the best items, more for sampled items, minus infinity for padding."""
    spread: Tensor
    """[M] float64, the mean standard deviation of a member's scores after one history."""


def fitting_users(dataset: Dataset, *, masked: bool) -> HeldOut:
    """Returns the validation users to fit weights on, in an order of their ids.

    It excludes users without a history, whom popularity serves (`inference.cold_start`), and, where seen
    items are `masked`, targets in the user's own history, which are misses under any weights.
    """
    held_out = dataset.held_out("valid")
    fit = held_out.histories.lengths > 0
    if masked:
        fit &= ~held_out.repeats
    rows = torch.nonzero(fit).flatten()
    names = [dataset.user_ids[user] for user in held_out.users[rows].tolist()]
    return held_out.select(rows[tie_keys(names).argsort()])


@torch.inference_mode()
def gather_candidates(
    members: Sequence[MemberScorer],
    held_out: HeldOut,
    keys: Tensor,
    *,
    best: int,
    others: int,
    max_len: int | None,
    seed: int,
    device: torch.device,
    masked: bool = True,
    progress: Progress = SILENT,
) -> Candidates:
    """Scores the catalogue for every user and keeps the candidates.

    With best >= N all items are candidates and the fit is exact. If the candidates' scores would exceed
    512 MiB, users are sampled.

    Args:
        held_out: users, as `fitting_users` returns them.
        masked: whether seen items are no candidates.
        keys: [N] keys that order items for sampling and ties (`data.tie_keys`).

    Raises:
        TrainingError: a score of a member is not finite.
    """
    order = keys.argsort()
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    num_items = members[0].scorer.num_items
    width = 1 + min(len(members) * best + others, num_items)
    users = _drawn(len(held_out.users), _NUMBERS_HELD // (width * len(members)), seed, progress)
    by_length = users[torch.argsort(held_out.histories.lengths[users], stable=True)]
    most = EVALUATION_LIMITS
    at_once = max(1, min(most.rows, most.scores // (num_items * len(members))))
    scores = torch.empty(len(users), width, len(members))
    log_count = torch.empty(len(users), width)
    spread = torch.zeros(len(members), dtype=torch.float64)
    with progress.task("score the validation part", len(users), "users") as task:
        for first in range(0, len(by_length), at_once):
            rows = by_length[first : first + at_once]
            histories = held_out.histories.select(rows)
            batch = histories.pad(max_len).to(device)
            member_scores = _score(members, batch)
            spread += member_scores.std(2, correction=0).sum(1).double().cpu()
            member_scores = member_scores[:, :, order.to(device)]
            target = place[held_out.targets[rows] - 1].to(device)
            allowed = torch.ones(member_scores.shape[1:], dtype=torch.bool, device=device)
            if masked:
                seen_rows, seen = histories.flat()
                allowed[seen_rows.to(device), place[seen - 1].to(device)] = False
            draws = torch.rand(
                member_scores.shape[1:], generator=generator(seed, "ensemble", first)
            )
            columns, count = choose(
                member_scores, target, allowed, draws.to(device), best, width - 1
            )
            for member, each in enumerate(member_scores):
                scores[first : first + len(rows), :, member] = each.gather(1, columns).cpu()
            log_count[first : first + len(rows)] = count.cpu()
            task.advance(len(rows))
    return Candidates(scores, log_count, spread / max(1, len(users)))


def _score(members: Sequence[MemberScorer], batch: PaddedBatch) -> Tensor:
    """Scores the catalogue with every member. Shapes: -> [members, B, N]."""
    scores = torch.stack([member.score(batch.items, batch.lengths) for member in members])
    if not bool(torch.isfinite(scores.sum())):
        raise TrainingError(
            "a member of the ensemble gave scores that are not finite; leave it out, or train it "
            "again with a lower learning_rate"
        )
    return scores


def choose(
    scores: Tensor, target: Tensor, allowed: Tensor, draws: Tensor, best: int, width: int
) -> tuple[Tensor, Tensor]:
    """Returns columns of the target, of each member's `best` allowed items, and of others up to `width`.

    Args:
        draws: uniform random numbers in [0, 1).

    Shapes: scores [M, B, N], target [B], allowed and draws [B, N] -> columns and the logarithm of the
    number of items that each represents, both [B, 1 + width].
    """
    allowed = allowed.scatter(1, target[:, None], False)
    keys = torch.where(allowed, draws, -1.0)
    # Raise the keys of each member's best items above all random ones.
    for each in scores:
        top = each.masked_fill(~allowed, float("-inf")).topk(min(best, each.shape[1]), dim=1)
        real = top.values > float("-inf")
        keys.scatter_(1, top.indices, torch.where(real, _BEST, keys.gather(1, top.indices)))
    chosen = keys.topk(min(width, keys.shape[1]), dim=1)
    # Sampled items share the weight of all items that are neither best nor target.
    drawn = (chosen.values >= 0) & (chosen.values < _BEST)
    rest = ((keys >= 0) & (keys < _BEST)).sum(1, keepdim=True)
    each = (rest / drawn.sum(1, keepdim=True).clamp(min=1)).log()
    count = torch.where(drawn, each, 0.0).masked_fill(chosen.values < 0, float("-inf"))
    columns = torch.cat([target[:, None], chosen.indices], 1)
    return columns, torch.cat([torch.zeros_like(count[:, :1]), count], 1)


def _drawn(count: int, limit: int, seed: int, progress: Progress) -> Tensor:
    if count <= limit:
        return torch.arange(count)
    progress.note(f"the weights are fitted on {limit} of {count} validation users, drawn at random")
    return torch.randperm(count, generator=generator(seed, "ensemble users"))[:limit]
