"""Beam search over a prefix tree for a whole batch at once.

An item's score is the log-likelihood of its token sequence, end mark included: the sum of the
log-probabilities, divided by a power of its length where one is asked for, without sampling or any other
setting that a model's folder may bring along. So a beam and an exact search order items by the same number,
and a beam can only miss.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqloom.llm.generation.forced_tokens import flatten_runs
from seqloom.llm.generation.length_penalty import LengthPenalty
from seqloom.llm.generation.likelihood import Likelihood
from seqloom.llm.generation.prefix_tree import PrefixTree
from seqloom.llm.generation.text_model import ROOT, DecodingState

_NONE = float("-inf")


@dataclass(frozen=True)
class SearchResult:
    """What a beam search found for each prompt, best first."""

    items: Tensor
    """[B, k] int64 item numbers, 0 where fewer than k are left."""
    scores: Tensor
    """[B, k] log-likelihoods, minus infinity where there is no item."""


@dataclass
class _Beams:
    """Sequences that are still open, each at a node that branches. Minus infinity is an empty place."""

    nodes: Tensor
    """[B, K] int64."""
    scores: Tensor
    """[B, K]."""
    slots: Tensor
    """[B, K] int64, where the last token was laid."""
    states: Tensor
    """[B, K, D]."""

    def select(self, rows: Tensor) -> _Beams:
        return _Beams(self.nodes[rows], self.scores[rows], self.slots[rows], self.states[rows])


def beam_search(
    state: DecodingState,
    tree: PrefixTree,
    likelihood: Likelihood,
    *,
    num_beams: int,
    top: int | None = None,
    seen: Tensor | None = None,
    only: Tensor | None = None,
    penalty: LengthPenalty | None = None,
) -> SearchResult:
    """The `top` best items that the beams reach; as many as beams if not given.

    In each round the beams, which stand at nodes that branch, compete for `num_beams` next tokens, and
    each of these is followed without a choice up to the next such node or to an item. So a long ID
    takes no more rounds than it has choices. Items do not take the place of open sequences; an open
    sequence ends when it can no longer beat the worst item that is kept, and a prompt when it has none.

    Seen items are masked inside the search: a branch whose every item is seen is never entered, so no
    beam is wasted and as many items come out as are left. With `only`, a branch is entered where it leads
    to one of these, so as many beams as these items find them all, and their scores are exact. With
    `penalty`, items compete by their divided scores and open sequences by their log-likelihoods, as in
    transformers' `generate`.

    Differs: a usual beam search compares sequences of equal length. Here sequences with equally many
    choices compete, and one that has no choice left makes room for others.

    Shapes: seen [B, S] item numbers, only [B, C], 0 where padded; -> items and scores [B, top].
    """
    with torch.inference_mode():
        search = _Search(state, tree, likelihood, num_beams, seen, only, penalty)
        return search.run(top or num_beams)


class _Search:
    """One search; a batch shrinks as its prompts end."""

    def __init__(
        self,
        state: DecodingState,
        tree: PrefixTree,
        likelihood: Likelihood,
        num_beams: int,
        seen: Tensor | None,
        only: Tensor | None,
        penalty: LengthPenalty | None,
    ) -> None:
        self._penalty = penalty
        self._state, self._tree, self._likelihood = state, tree, likelihood
        self._num_beams = num_beams
        self._seen = None if seen is None else tree.leaves_of(seen)
        self._only = None if only is None else tree.leaves_of(only)
        self._laid = 0

    def run(self, top: int) -> SearchResult:
        first = self._state.first
        device, batch = first.device, len(first)
        node = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        beams = _Beams(node, torch.zeros(batch, 1, device=device), node + ROOT, first[:, None])
        every = SearchResult(
            torch.zeros(batch, top, dtype=torch.int64, device=device),
            torch.full((batch, top), _NONE, device=device),
        )
        found, rows = every, torch.arange(batch, device=device)
        while True:
            found, beams = self._round(found, beams)
            every.items[rows], every.scores[rows] = found.items, found.scores
            alive = torch.nonzero((beams.scores > _NONE).any(1)).flatten()
            if not len(alive):
                return every
            if 2 * len(alive) <= len(rows):
                rows, beams = rows[alive], beams.select(alive)
                found = SearchResult(found.items[alive], found.scores[alive])
                self._state.keep(alive)
                self._seen = None if self._seen is None else self._seen[alive]
                self._only = None if self._only is None else self._only[alive]

    def _round(self, found: SearchResult, beams: _Beams) -> tuple[SearchResult, _Beams]:
        """One choice for every beam, and what follows from it without another."""
        tree = self._tree
        nodes, scores, slots = self._choices(beams)
        fed = self._fed(nodes)
        found = self._keep_best(found, nodes, scores.masked_fill(fed > 0, _NONE))
        scores = self._still_good(scores.masked_fill(fed == 0, _NONE), nodes, found)
        best = scores.topk(min(self._num_beams, scores.shape[1]), dim=1)
        scores, chosen = best.values, best.indices
        nodes, slots = nodes.gather(1, chosen), slots.gather(1, chosen)
        fed = fed.gather(1, chosen).masked_fill(scores == _NONE, 0)
        if not bool(fed.any()):
            return found, _Beams(nodes, scores, slots, beams.states)
        laid = flatten_runs(tree, nodes, fed)
        states = self._state.step(
            laid.tokens, slots.gather(1, laid.runs.clamp(min=0)), laid.runs
        )  # [B, M, D]
        if self._likelihood.forced_cost:
            at = (laid.runs >= 0) & (tree.num_children[laid.nodes] == 1)
            gained = torch.zeros_like(laid.nodes, dtype=scores.dtype)
            gained[at] = self._likelihood.forced(states[at], laid.nodes[at])
            scores = scores.scatter_add(1, laid.runs.clamp(min=0), gained)
        ends = tree.end[nodes]
        closed = tree.num_children[ends] == 0
        found = self._keep_best(found, ends, scores.masked_fill(~closed, _NONE))
        scores = self._still_good(scores.masked_fill(closed, _NONE), ends, found)
        opened = _Beams(ends, scores, laid.last + self._laid, states)
        self._laid += laid.tokens.shape[1]
        return found, _close_up(opened, laid.last)

    def _choices(self, beams: _Beams) -> tuple[Tensor, Tensor, Tensor]:
        """All children of all beams, their scores, and the slots they come from.

        Shapes: -> three of [B, K * C]; a score of minus infinity where there is no child.
        """
        tree = self._tree
        at = beams.scores > _NONE
        count = tree.num_children[beams.nodes].masked_fill(~at, 0)
        width = int(count.max())
        offset = torch.arange(width, device=count.device)
        real = offset < count[..., None]  # [B, K, C]
        nodes = torch.where(real, tree.first_child[beams.nodes][..., None] + offset, 0)
        gained = beams.scores.new_full(real.shape, _NONE)
        gained[at] = self._likelihood.children(beams.states[at], beams.nodes[at], width)
        scores = (beams.scores[..., None] + gained).masked_fill(~real, _NONE).flatten(1)
        nodes = nodes.flatten(1)
        if self._seen is not None:
            scores = scores.masked_fill(tree.all_leaves_in(nodes, self._seen), _NONE)
        if self._only is not None:
            scores = scores.masked_fill(tree.no_leaves_in(nodes, self._only), _NONE)
        return nodes, scores, beams.slots[..., None].expand_as(real).flatten(1)

    def _fed(self, nodes: Tensor) -> Tensor:
        """How many tokens of each node's run the model must read; none where the item is decided."""
        leads_to_item = self._tree.num_children[self._tree.end[nodes]] == 0
        run = self._tree.run[nodes]
        decided = (run - 1) if self._likelihood.forced_cost else torch.zeros_like(run)
        return torch.where(leads_to_item, decided, run)

    def _keep_best(self, found: SearchResult, nodes: Tensor, scores: Tensor) -> SearchResult:
        """With the items that these nodes lead to."""
        kept = found.scores.shape[1]
        if self._penalty is not None:
            scores = self._penalty.final(scores, self._tree.item[self._tree.first_leaf[nodes]])
        if scores.shape[1] > kept:
            best = scores.topk(kept, dim=1)
            nodes, scores = nodes.gather(1, best.indices), best.values
        items = self._tree.item[self._tree.first_leaf[nodes]].masked_fill(scores == _NONE, 0)
        merged = torch.cat([found.scores, scores], 1).topk(kept, dim=1)
        return SearchResult(
            torch.cat([found.items, items], 1).gather(1, merged.indices), merged.values
        )

    def _still_good(self, scores: Tensor, nodes: Tensor, found: SearchResult) -> Tensor:
        """Without the scores that cannot beat the worst item kept: a sequence's score only falls."""
        worst = found.scores[:, -1:]  # minus infinity until enough are found
        reach = scores if self._penalty is None else self._penalty.bound(scores, nodes)
        return scores.masked_fill(reach <= worst, _NONE)


def _close_up(beams: _Beams, last: Tensor) -> _Beams:
    """The open ones moved to the left, as few places as the fullest row needs; `last` is their place.

    Shapes: beams.states [B, M, D], last [B, K] -> states [B, K', D].
    """
    is_open = beams.scores > _NONE
    width = max(1, int(is_open.sum(1).max()))
    order = (~is_open).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    place = last.gather(1, order)[..., None].expand(-1, -1, beams.states.shape[2])
    return _Beams(
        beams.nodes.gather(1, order),
        beams.scores.gather(1, order),
        beams.slots.gather(1, order),
        beams.states.gather(1, place),
    )
