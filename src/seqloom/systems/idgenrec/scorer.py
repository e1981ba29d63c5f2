"""Ranking with IDGenRec: a beam that lists the best items, or the likelihood of every item."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from seqloom.llm.beam import beam_search, exact_scores
from seqloom.llm.prefix_tree import PrefixTree
from seqloom.llm.text_model import DecodingState, TextModel
from seqloom.systems.idgenrec.prompts import PromptBuilder

_NUMBERS_AT_ONCE = 1 << 26
_PROMPT_TOKENS_AT_ONCE = 1 << 15
_LEAVES_AT_ONCE = 256


class _IDScorer:
    """A recommender over a catalogue of IDs. Made in evaluation mode; valid until it is trained on."""

    def __init__(
        self,
        recommender: TextModel,
        builder: PromptBuilder,
        table: Tensor,
        tree: PrefixTree,
        template: int,
        num_beams: int,
    ) -> None:
        """`table` [N + 1, T] are the IDs, row 0 of nobody; `template` is the number of the prompt."""
        self.num_items = tree.num_items
        self._recommender = recommender.eval()
        self._builder, self._table, self._tree = builder, table, tree
        self._template, self._num_beams = template, num_beams

    def exact(self) -> ExactScorer:
        """The same by the likelihood of every item."""
        return ExactScorer(
            self._recommender,
            self._builder,
            self._table,
            self._tree,
            self._template,
            self._num_beams,
        )

    def among(self, numbers: Tensor) -> ExactScorer:
        """A scorer of these items alone; see `core.protocols`. Shapes: numbers [C] int64."""
        tree = PrefixTree.build(self._table[numbers.to(self._table.device)])
        return ExactScorer(
            self._recommender,
            self._builder,
            self._table,
            tree.to(self._table.device),
            self._template,
            self._num_beams,
        )

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """The log-likelihood of every item's ID. Takes long in a large catalogue.

        Shapes: [B, L], [B] -> [B, N].
        """
        parts = [
            exact_scores(state, self._tree, leaves_at_once=_LEAVES_AT_ONCE)
            for _, state in self._states(items, _LEAVES_AT_ONCE)
        ]
        return torch.cat(parts)

    def _states(self, items: Tensor, beams: int) -> Iterator[tuple[slice, DecodingState]]:
        """Encoded prompts, as many rows at a time as memory allows for `beams` beams each."""
        if not items.shape[1]:
            items = items.new_zeros(len(items), 1)
        which = torch.full((len(items),), self._template, device=items.device)
        with torch.inference_mode():
            prompts = self._builder(self._table, items, which)
            width = prompts.tokens.shape[1]
            rows = _NUMBERS_AT_ONCE // (beams * self._recommender.num_outputs)
            rows = max(1, min(rows, _PROMPT_TOKENS_AT_ONCE // width))
            for first in range(0, len(items), rows):
                part = slice(first, first + rows)
                mask = prompts.mask[part]
                longest = int(mask.sum(1).max())
                tokens = prompts.tokens[part, :longest]
                yield part, self._recommender.start(tokens, mask[:, :longest])


class ExactScorer(_IDScorer):
    """Scores the whole catalogue."""


class BeamScorer(_IDScorer):
    """Lists the best items by beam search over the prefix tree of IDs."""

    @property
    def list_size(self) -> int:
        """How many items a list has if not asked for more: one for each beam."""
        return min(self._num_beams, self.num_items)

    def best(
        self, items: Tensor, lengths: Tensor, k: int, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The `k` best items that are not seen, by at least `num_beams` beams; see `core.protocols`.

        Shapes: items [B, L], lengths [B], seen [B, S] -> items and scores [B, k].
        """
        beams = min(max(k, self._num_beams), self.num_items)
        found = [
            beam_search(
                state, self._tree, num_beams=beams, seen=None if seen is None else seen[part]
            )
            for part, state in self._states(items, beams)
        ]
        listed = torch.cat([part.items for part in found])[:, :k]
        scores = torch.cat([part.scores for part in found])[:, :k]
        missing = k - listed.shape[1]
        pad = torch.nn.functional.pad
        return pad(listed, (0, missing)), pad(scores, (0, missing), value=float("-inf"))
