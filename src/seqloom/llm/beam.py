"""Beam search over a prefix tree for a whole batch at once, and the exact scores of every item.

An item's score is the log-likelihood of its token sequence, end mark included: the sum of the
log-probabilities, without a length penalty, sampling or any other setting that a model's folder may
bring along. So a beam and an exact search order items by the same number, and a beam can only miss.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.llm.prefix_tree import PrefixTree
from seqloom.llm.text_model import DecodingState

_NONE = float("-inf")


@dataclass(frozen=True)
class Found:
    """What a beam search found for each prompt, best first."""

    items: Tensor
    """[B, k] int64 item numbers, 0 where fewer than k are left."""
    scores: Tensor
    """[B, k] log-likelihoods, minus infinity where there is no item."""


@dataclass
class _Beams:
    """The sequences that are still open. A score of minus infinity marks an empty place."""

    nodes: Tensor
    """[B, K] int64."""
    scores: Tensor
    """[B, K]."""
    log_probs: Tensor
    """[B, K, V'] of the next token."""


@torch.inference_mode()
def beam_search(
    state: DecodingState, tree: PrefixTree, *, num_beams: int, seen: Tensor | None = None
) -> Found:
    """The `num_beams` best items that the beams reach.

    Seen items are masked inside the beam: a branch whose every item is seen is never entered, so no
    beam is wasted and as many items come out as are left, up to `num_beams`. Closed sequences do not
    take the place of open ones; the search ends when no open one can beat the worst that is kept.

    Shapes: seen [B, S] item numbers, 0 where padded; -> items and scores [B, num_beams].
    """
    first = state.first[:, None]  # [B, 1, V']
    batch, device = len(first), first.device
    leaves = None if seen is None else tree.seen_leaves(seen)
    beams = _Beams(
        torch.zeros(batch, 1, dtype=torch.int64, device=device),
        torch.zeros(batch, 1, device=device),
        first,
    )
    found = Found(
        torch.zeros(batch, num_beams, dtype=torch.int64, device=device),
        torch.full((batch, num_beams), _NONE, device=device),
    )
    for depth, widest in enumerate(tree.widest):
        nodes, scores, parents = _expand(tree, beams, widest, leaves)
        closed = (tree.num_children[nodes] == 0) & (scores > _NONE)
        found = _keep_best(tree, found, nodes, scores.masked_fill(~closed, _NONE))
        if depth + 1 == len(tree.widest):
            break
        open_scores = scores.masked_fill(closed, _NONE)
        worst = found.scores[:, -1:]  # minus infinity until num_beams are found
        open_scores = open_scores.masked_fill(open_scores <= worst, _NONE)
        top = open_scores.topk(min(num_beams, open_scores.shape[1]), dim=1)
        if not bool((top.values > _NONE).any()):
            break
        nodes, parents = nodes.gather(1, top.indices), parents.gather(1, top.indices)
        # An empty place must still hold a token that can be fed.
        log_probs = state.step(tree.token[nodes].clamp(min=0), parents)
        beams = _Beams(nodes, top.values, log_probs)
    return found


def _expand(
    tree: PrefixTree, beams: _Beams, widest: int, leaves: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """All children of all beams: node, score and the beam each comes from.

    Shapes: -> three of [B, K * C]; a score of minus infinity where there is no child.
    """
    batch, count = beams.nodes.shape
    offset = torch.arange(widest, device=beams.nodes.device)
    real = offset < tree.num_children[beams.nodes][..., None]  # [B, K, C]
    nodes = torch.where(real, tree.first_child[beams.nodes][..., None] + offset, 0)
    gained = beams.log_probs.gather(2, tree.token[nodes].clamp(min=0))
    scores = (beams.scores[..., None] + gained).masked_fill(~real, _NONE).flatten(1)
    nodes = nodes.flatten(1)
    if leaves is not None:
        scores = scores.masked_fill(tree.all_seen(nodes, leaves), _NONE)
    parents = torch.arange(count, device=nodes.device)[:, None].expand(-1, widest).flatten()
    return nodes, scores, parents.expand(batch, -1)


def _keep_best(tree: PrefixTree, found: Found, nodes: Tensor, scores: Tensor) -> Found:
    kept = found.scores.shape[1]
    if scores.shape[1] > kept:
        top = scores.topk(kept, dim=1)
        nodes, scores = nodes.gather(1, top.indices), top.values
    items = tree.item[tree.first_leaf[nodes]].masked_fill(scores == _NONE, 0)
    merged = torch.cat([found.scores, scores], 1).topk(kept, dim=1)
    return Found(torch.cat([found.items, items], 1).gather(1, merged.indices), merged.values)


@torch.inference_mode()
def exact_scores(state: DecodingState, tree: PrefixTree, *, leaves_at_once: int = 512) -> Tensor:
    """The log-likelihood of every item for each prompt. Column j belongs to item number j + 1.

    Walks the whole tree, `leaves_at_once` leaves at a time. The time grows with the catalogue; meant for
    small catalogues and for measuring what a beam loses.

    Shapes: -> [B, N].
    """
    batch, device = len(state.first), state.first.device
    scores = torch.empty(batch, tree.num_items, device=device)
    for first in range(0, tree.num_items, leaves_at_once):
        end = min(first + leaves_at_once, tree.num_items)
        leaves, values = _walk(state, tree, first, end)
        scores[:, tree.item[leaves] - 1] = values
        state.rewind()
    return scores


def _walk(state: DecodingState, tree: PrefixTree, first: int, end: int) -> tuple[Tensor, Tensor]:
    """Score the leaves first..end-1, level by level. Shapes: -> leaves [M], scores [B, M]."""
    batch, device = len(state.first), state.first.device
    nodes = torch.zeros(1, dtype=torch.int64, device=device)
    scores = torch.zeros(batch, 1, device=device)
    log_probs = state.first[:, None]
    done: list[tuple[Tensor, Tensor]] = []
    while len(nodes):
        count = tree.num_children[nodes]
        parents = torch.repeat_interleave(torch.arange(len(nodes), device=device), count)
        offset = torch.arange(len(parents), device=device) - (count.cumsum(0) - count)[parents]
        children = tree.first_child[nodes[parents]] + offset
        inside = (tree.first_leaf[children] < end) & (tree.end_leaf[children] > first)
        children, parents = children[inside], parents[inside]
        scores = scores[:, parents] + log_probs[:, parents, tree.token[children]]
        closed = tree.num_children[children] == 0
        done.append((tree.first_leaf[children[closed]], scores[:, closed]))
        nodes, scores, parents = children[~closed], scores[:, ~closed], parents[~closed]
        if len(nodes):
            fed = tree.token[nodes].expand(batch, -1)
            log_probs = state.step(fed, parents.expand(batch, -1))
    return torch.cat([leaf for leaf, _ in done]), torch.cat([value for _, value in done], 1)
