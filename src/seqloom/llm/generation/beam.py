"""Beam search over a prefix tree for a whole batch at once.

An item's score is the log-likelihood of its token sequence, end mark included: the sum of the
log-probabilities, optionally divided by a power of its length. Generation settings of the model's folder
(sampling, temperature) are ignored. Beam search and exact search therefore rank items by the same number;
the only error of a beam search is to miss an item.
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

_EMPTY = float("-inf")
"""Score of an empty place of a beam or of a result."""


@dataclass(frozen=True)
class SearchResult:
    """The best items of each prompt, best first."""

    items: Tensor
    """[B, k] int64 item numbers, 0 where a prompt has fewer than k items."""
    scores: Tensor
    """[B, k] log-likelihoods, minus infinity where there is no item."""


@dataclass
class _Beams:
    """Unfinished sequences, each at a branching node; a score of minus infinity marks an empty place."""

    nodes: Tensor
    """[B, K] int64."""
    scores: Tensor
    """[B, K]."""
    slots: Tensor
    """[B, K] int64, slot of the last token in the decoding state."""
    states: Tensor
    """[B, K, D], hidden state at the last token."""

    def select(self, rows: Tensor) -> _Beams:
        """Returns the beams of some prompts. Shapes: rows [B']."""
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
    """Returns the `top` best items that the beams reach (default: `num_beams`).

    Every beam stands at a branching node. In each round the children of all beams compete for
    `num_beams` places, and each survivor follows its forced tokens to the next branching node or to an
    item. An ID therefore takes as many rounds as it has choices, however long it is. Finished items do
    not occupy beam places. A sequence is dropped when it can no longer beat the worst item kept, and a
    prompt ends when it has no sequence left.

    Seen items are masked inside the search: a branch that holds seen items alone is never entered, so no
    beam is wasted. With `only`, the search enters just the branches that lead to one of these items; with
    as many beams as such items it finds all of them, with exact scores. With `penalty`, items compete by
    their divided scores and unfinished sequences by their log-likelihoods, as in transformers' `generate`.

    Differs: a usual beam search compares sequences of equal length. Here sequences with the same number of
    choices compete, and a sequence without further choices makes room for others.

    Shapes: seen [B, S] item numbers, only [B, C], 0 where padded; -> items and scores [B, top].
    """
    with torch.inference_mode():
        search = _Search(state, tree, likelihood, num_beams, seen, only, penalty)
        return search.run(top or num_beams)


class _Search:
    """State of one search; the batch shrinks as prompts end."""

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
        self._num_slots = 0

    def run(self, top: int) -> SearchResult:
        """Runs rounds until no prompt has an unfinished sequence."""
        first = self._state.first
        device, batch = first.device, len(first)
        node = torch.zeros(batch, 1, dtype=torch.int64, device=device)  # the root
        beams = _Beams(node, torch.zeros(batch, 1, device=device), node + ROOT, first[:, None])
        result = SearchResult(
            torch.zeros(batch, top, dtype=torch.int64, device=device),
            torch.full((batch, top), _EMPTY, device=device),
        )
        best, rows = result, torch.arange(batch, device=device)
        while True:
            best, beams = self._run_round(best, beams)
            result.items[rows], result.scores[rows] = best.items, best.scores
            alive = torch.nonzero((beams.scores > _EMPTY).any(1)).flatten()
            if not len(alive):
                return result
            # Selecting rows copies the cache, so wait until half of the prompts have ended.
            if 2 * len(alive) <= len(rows):
                rows, beams = rows[alive], beams.select(alive)
                best = SearchResult(best.items[alive], best.scores[alive])
                self._state.keep(alive)
                self._seen = None if self._seen is None else self._seen[alive]
                self._only = None if self._only is None else self._only[alive]

    def _run_round(self, best: SearchResult, beams: _Beams) -> tuple[SearchResult, _Beams]:
        """Makes one choice for every beam and follows the forced tokens after it."""
        tree = self._tree
        nodes, scores, slots = self._expand(beams)  # [B, K * C] each
        to_read = self._count_tokens_to_read(nodes)
        # Children whose item is decided need no forward pass: they are results already.
        best = self._merge_best(best, nodes, scores.masked_fill(to_read > 0, _EMPTY))
        scores = self._prune(scores.masked_fill(to_read == 0, _EMPTY), nodes, best)
        # The others compete for the beam places.
        top = scores.topk(min(self._num_beams, scores.shape[1]), dim=1)  # [B, K]
        scores, chosen = top.values, top.indices
        nodes, slots = nodes.gather(1, chosen), slots.gather(1, chosen)
        to_read = to_read.gather(1, chosen).masked_fill(scores == _EMPTY, 0)
        if not bool(to_read.any()):
            return best, _Beams(nodes, scores, slots, beams.states)
        # One forward pass reads the chosen token and the forced tokens after it, for all beams.
        flat = flatten_runs(tree, nodes, to_read)  # M tokens a prompt
        states = self._state.step(
            flat.tokens, slots.gather(1, flat.runs.clamp(min=0)), flat.runs
        )  # [B, M, D]
        if self._likelihood.forced_cost:
            # Add the log-probability of every forced token to the beam that reads it.
            forced = (flat.runs >= 0) & (tree.num_children[flat.nodes] == 1)  # [B, M]
            gained = torch.zeros_like(flat.nodes, dtype=scores.dtype)
            gained[forced] = self._likelihood.forced(states[forced], flat.nodes[forced])
            scores = scores.scatter_add(1, flat.runs.clamp(min=0), gained)
        # A run ends at a leaf (a finished item) or at a branching node (a beam of the next round).
        ends = tree.end[nodes]
        finished = tree.num_children[ends] == 0
        best = self._merge_best(best, ends, scores.masked_fill(~finished, _EMPTY))
        scores = self._prune(scores.masked_fill(finished, _EMPTY), ends, best)
        unfinished = _Beams(ends, scores, flat.last + self._num_slots, states)
        self._num_slots += flat.tokens.shape[1]
        return best, _compact(unfinished, flat.last)

    def _expand(self, beams: _Beams) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the children of all beams, their scores, and the slots of their parents.

        Shapes: -> three of [B, K * C]; the score is minus infinity where there is no child.
        """
        tree = self._tree
        alive = beams.scores > _EMPTY  # [B, K]
        count = tree.num_children[beams.nodes].masked_fill(~alive, 0)
        width = int(count.max())  # C
        offset = torch.arange(width, device=count.device)
        real = offset < count[..., None]  # [B, K, C]
        nodes = torch.where(real, tree.first_child[beams.nodes][..., None] + offset, 0)
        gained = beams.scores.new_full(real.shape, _EMPTY)
        gained[alive] = self._likelihood.children(beams.states[alive], beams.nodes[alive], width)
        scores = (beams.scores[..., None] + gained).masked_fill(~real, _EMPTY).flatten(1)
        nodes = nodes.flatten(1)  # [B, K * C]
        if self._seen is not None:
            scores = scores.masked_fill(tree.all_leaves_in(nodes, self._seen), _EMPTY)
        if self._only is not None:
            scores = scores.masked_fill(tree.no_leaves_in(nodes, self._only), _EMPTY)
        return nodes, scores, beams.slots[..., None].expand_as(real).flatten(1)

    def _count_tokens_to_read(self, nodes: Tensor) -> Tensor:
        """Returns how many tokens of each node's run the model must read; 0 where the score is final."""
        leads_to_item = self._tree.num_children[self._tree.end[nodes]] == 0
        run = self._tree.run[nodes]
        # A run that ends in an item needs no state at its end, and none at all where forced tokens are free.
        decided = (run - 1) if self._likelihood.forced_cost else torch.zeros_like(run)
        return torch.where(leads_to_item, decided, run)

    def _merge_best(self, best: SearchResult, nodes: Tensor, scores: Tensor) -> SearchResult:
        """Merges the items that `nodes` lead to into the best ones."""
        top = best.scores.shape[1]
        if self._penalty is not None:
            scores = self._penalty.final(scores, self._tree.item[self._tree.first_leaf[nodes]])
        if scores.shape[1] > top:
            kept = scores.topk(top, dim=1)
            nodes, scores = nodes.gather(1, kept.indices), kept.values
        items = self._tree.item[self._tree.first_leaf[nodes]].masked_fill(scores == _EMPTY, 0)
        merged = torch.cat([best.scores, scores], 1).topk(top, dim=1)
        return SearchResult(
            torch.cat([best.items, items], 1).gather(1, merged.indices), merged.values
        )

    def _prune(self, scores: Tensor, nodes: Tensor, best: SearchResult) -> Tensor:
        """Masks sequences that cannot beat the worst item kept: a log-likelihood only falls."""
        worst = best.scores[:, -1:]  # [B, 1], minus infinity until `top` items are known
        bound = scores if self._penalty is None else self._penalty.bound(scores, nodes)
        return scores.masked_fill(bound <= worst, _EMPTY)


def _compact(beams: _Beams, last: Tensor) -> _Beams:
    """Moves unfinished beams to the left and cuts the width to that of the fullest row.

    Args:
        last: place of each beam's last token among the M tokens just read.

    Shapes: beams.states [B, M, D], last [B, K] -> states [B, K', D].
    """
    alive = beams.scores > _EMPTY
    width = max(1, int(alive.sum(1).max()))  # K'
    order = (~alive).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    place = last.gather(1, order)[..., None].expand(-1, -1, beams.states.shape[2])
    return _Beams(
        beams.nodes.gather(1, order),
        beams.scores.gather(1, order),
        beams.slots.gather(1, order),
        beams.states.gather(1, place),
    )
