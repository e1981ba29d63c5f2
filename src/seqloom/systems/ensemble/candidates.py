"""What an ensemble's weights are fitted on: for each validation user the target, the members' best
items, and some of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.core.errors import TrainingError
from seqloom.core.progress import SILENT, Progress
from seqloom.core.random import generator
from seqloom.data.store import Dataset, HeldOut
from seqloom.data.tie_keys import tie_keys
from seqloom.systems.ensemble.scorer import MemberScorer

_NUMBERS_HELD = 1 << 27
"""Scores that are kept: 512 MiB."""
_SCORES_AT_ONCE = 4 << 20
_HISTORIES_AT_ONCE = 512
_BEST = 2.0
"""The key of a member's best items; those of the rest lie in [0, 1)."""


@dataclass(frozen=True)
class Candidates:
    """Scores of some items of each user's catalogue, seen items left out."""

    scores: Tensor
    """[U, C, M] float32 of M members; column 0 is the target."""
    log_count: Tensor
    """[U, C] float32, the logarithm of how many items a column stands for: 0 for the target and the best
    items, more for the items drawn from the rest, minus infinity where there is none."""
    spread: Tensor
    """[M] float64, the mean standard deviation of a member's scores after one history."""


def fitting_users(dataset: Dataset) -> HeldOut:
    """The validation users that weights are fitted on, in an order that their ids decide.

    Without a history no member has a say (`inference.cold_start`), and a target of the user's own
    history is a miss whatever the weights are.
    """
    held_out = dataset.held_out("valid")
    rows = torch.nonzero((held_out.histories.lengths > 0) & ~held_out.repeats).flatten()
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
    progress: Progress = SILENT,
) -> Candidates:
    """Score every user's catalogue once and keep what the fit needs.

    With best >= N nothing is left to draw and the fit is exact. Where the scores to be kept would fill
    more than 512 MiB, a part of the users is drawn.

    Args:
        held_out: users whose target is not an item of their history.
        keys: [N] the order in which items are drawn, and tie (`data.tie_keys`).

    Raises:
        TrainingError: a member gave a score that is not finite.
    """
    order = keys.argsort()
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    num_items = members[0].scorer.num_items
    width = 1 + min(len(members) * best + others, num_items)
    users = _drawn(len(held_out.users), _NUMBERS_HELD // (width * len(members)), seed, progress)
    by_length = users[torch.argsort(held_out.histories.lengths[users], stable=True)]
    at_once = max(1, min(_HISTORIES_AT_ONCE, _SCORES_AT_ONCE // (num_items * len(members))))
    scores = torch.empty(len(users), width, len(members))
    log_count = torch.empty(len(users), width)
    spread = torch.zeros(len(members), dtype=torch.float64)
    with progress.task("score the validation part", len(users), "users") as task:
        for first in range(0, len(by_length), at_once):
            rows = by_length[first : first + at_once]
            histories = held_out.histories.select(rows)
            batch = histories.pad(max_len).to(device)
            found = torch.stack([m.score(batch.items, batch.lengths) for m in members])
            if not bool(torch.isfinite(found.sum())):
                raise TrainingError(
                    "a member of the ensemble gave scores that are not finite; leave it out, or train it "
                    "again with a lower learning_rate"
                )
            spread += found.std(2, correction=0).sum(1).double().cpu()
            found = found[:, :, order.to(device)]
            target = place[held_out.targets[rows] - 1].to(device)
            allowed = torch.ones(found.shape[1:], dtype=torch.bool, device=device)
            seen_rows, seen = histories.flat()
            allowed[seen_rows.to(device), place[seen - 1].to(device)] = False
            draws = torch.rand(found.shape[1:], generator=generator(seed, "ensemble", first))
            columns, count = choose(found, target, allowed, draws.to(device), best, width - 1)
            for member, each in enumerate(found):
                scores[first : first + len(rows), :, member] = each.gather(1, columns).cpu()
            log_count[first : first + len(rows)] = count.cpu()
            task.advance(len(rows))
    return Candidates(scores, log_count, spread / max(1, len(users)))


def choose(
    scores: Tensor, target: Tensor, allowed: Tensor, draws: Tensor, best: int, width: int
) -> tuple[Tensor, Tensor]:
    """Columns of the target, of each member's `best` allowed items, and of others up to `width`.

    Args:
        draws: uniform random numbers in [0, 1).

    Shapes: scores [M, B, N], target [B], allowed and draws [B, N] -> columns and the logarithm of how
    many items each stands for, both [B, 1 + width].
    """
    allowed = allowed.scatter(1, target[:, None], False)
    keys = torch.where(allowed, draws, -1.0)
    for each in scores:
        top = each.masked_fill(~allowed, float("-inf")).topk(min(best, each.shape[1]), dim=1)
        real = top.values > float("-inf")
        keys.scatter_(1, top.indices, torch.where(real, _BEST, keys.gather(1, top.indices)))
    chosen = keys.topk(min(width, keys.shape[1]), dim=1)
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
