"""Ranking with IDGenRec: a beam that lists the best items, or the likelihood of every item."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seqloom.core.batching import padded_batches
from seqloom.llm.generation.beam import beam_search
from seqloom.llm.generation.exact_scores import score_candidates, score_items
from seqloom.llm.generation.length_penalty import LengthPenalty
from seqloom.llm.generation.likelihood import BranchLikelihood, Likelihood, VocabularyLikelihood
from seqloom.llm.generation.prefix_tree import PrefixTree
from seqloom.llm.generation.text_model import DecodingState, TextModel
from seqloom.systems.idgenrec.prompts import PromptBuilder

# Prompt tokens that go through the model together: as many as a processor's cache likes.
_TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 1 << 15}
_ROWS_AT_ONCE = {"cpu": 32, "cuda": 1024}
_LEAVES_AT_ONCE = {"cpu": 64, "cuda": 256}


@dataclass(frozen=True)
class Decoding:
    """How a recommender is asked."""

    template: int
    """The number of the prompt."""
    num_beams: int
    likelihood: Literal["text", "catalogue"]
    length_penalty: float = 0.0


class _IDScorer:
    """A recommender over a catalogue of IDs. Made in evaluation mode; valid until it is trained on."""

    def __init__(
        self,
        recommender: TextModel,
        builder: PromptBuilder,
        table: Tensor,
        tree: PrefixTree,
        decoding: Decoding,
        only: Tensor | None = None,
    ) -> None:
        """`table` [N + 1, T] are the IDs, row 0 of nobody; `only` [C] the items to score, else all."""
        self.num_items = tree.num_items if only is None else len(only)
        self._recommender = recommender.eval()
        self._builder, self._table, self._tree = builder, table, tree
        self._decoding, self._only = decoding, only
        self._penalty = LengthPenalty.build(tree, decoding.length_penalty)

    def exact_scorer(self) -> ExactScorer:
        """The same by the likelihood of every item."""
        return self._exact(None)

    def restrict_to(self, numbers: Tensor) -> ExactScorer:
        """A scorer of these items alone; see `core.protocols`. Shapes: numbers [C] int64."""
        return self._exact(numbers.to(self._table.device))

    def _exact(self, only: Tensor | None) -> ExactScorer:
        return ExactScorer(
            self._recommender, self._builder, self._table, self._tree, self._decoding, only
        )

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """The score of every item's ID. Takes long in a large catalogue.

        Shapes: [B, L], [B] -> [B, N].
        """
        found = torch.empty(len(items), self.num_items, device=items.device)
        leaves = _size(_LEAVES_AT_ONCE, items)
        for rows, state in self._states(items):
            found[rows] = score_items(
                state,
                self._tree,
                self._likelihood(state),
                items=self._only,
                leaves_at_once=leaves,
                penalty=self._penalty,
            )
        return found

    def score_candidates(self, items: Tensor, lengths: Tensor, candidates: Tensor) -> Tensor:
        """The score of each history's own candidates; see `core.protocols`.

        Shapes: [B, L], [B], candidates [B, C] item numbers, 0 where padded -> [B, C].
        """
        found = torch.empty(candidates.shape, device=items.device)
        for rows, state in self._states(items):
            found[rows] = score_candidates(
                state, self._tree, self._likelihood(state), candidates[rows], self._penalty
            )
        return found

    def _likelihood(self, state: DecodingState) -> Likelihood:
        if self._decoding.likelihood == "text":
            return VocabularyLikelihood(self._tree, state.head)
        return BranchLikelihood(self._tree, state.head)

    def _states(self, items: Tensor) -> Iterator[tuple[Tensor, DecodingState]]:
        """Encoded prompts of like length together, with the numbers of their rows."""
        if not items.shape[1]:
            items = items.new_zeros(len(items), 1)
        which = torch.full((len(items),), self._decoding.template, device=items.device)
        with torch.inference_mode():
            prompts = self._builder(self._table, items, which)
            lengths = prompts.mask.sum(1).tolist()
            for batch in padded_batches(
                lengths, rows=_size(_ROWS_AT_ONCE, items), cells=_size(_TOKENS_AT_ONCE, items)
            ):
                rows, longest = torch.tensor(batch, device=items.device), lengths[batch[0]]
                tokens, mask = prompts.tokens[rows, :longest], prompts.mask[rows, :longest]
                yield rows, self._recommender.start(tokens, mask)


class ExactScorer(_IDScorer):
    """Scores the whole catalogue, or some items of it."""


class BeamScorer(_IDScorer):
    """Lists the best items by beam search over the prefix tree of IDs."""

    @property
    def list_size(self) -> int:
        """How many items a list has if not asked for more: one for each beam."""
        return min(self._decoding.num_beams, self.num_items)

    def best(
        self, items: Tensor, lengths: Tensor, k: int, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The `k` best items that are not seen, by at least `num_beams` beams; see `core.protocols`.

        Shapes: items [B, L], lengths [B], seen [B, S] -> items and scores [B, k].
        """
        beams = min(max(k, self._decoding.num_beams), self.num_items)
        found = items.new_zeros(len(items), k, dtype=torch.int64)
        scores = torch.full((len(items), k), float("-inf"), device=items.device)
        top = min(k, self.num_items)
        for rows, state in self._states(items):
            best = beam_search(
                state,
                self._tree,
                self._likelihood(state),
                num_beams=beams,
                top=top,
                seen=None if seen is None else seen[rows],
                penalty=self._penalty,
            )
            found[rows, :top], scores[rows, :top] = best.items, best.scores
        return found, scores


def _size(sizes: dict[str, int], values: Tensor) -> int:
    return sizes.get(values.device.type, sizes["cpu"])
