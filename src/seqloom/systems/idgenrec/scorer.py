"""Scorers of IDGenRec: a beam search for the best items, or the likelihood of every item."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seqloom.core.batching import padded_batches
from seqloom.llm.generation.beam import SearchResult, beam_search
from seqloom.llm.generation.decoder_only import DecoderOnly
from seqloom.llm.generation.exact_scores import score_candidates, score_items
from seqloom.llm.generation.fixed_decoding import FixedDecoder, RoomError
from seqloom.llm.generation.length_penalty import LengthPenalty
from seqloom.llm.generation.likelihood import BranchLikelihood, Likelihood, VocabularyLikelihood
from seqloom.llm.generation.prefix_tree import PrefixTree
from seqloom.llm.generation.text_model import DecodingState, TextModel
from seqloom.nn.graphs import Recorder, build_recorder
from seqloom.systems.idgenrec.prompts import PromptBuilder

# Prompt tokens in a batch; on a CPU few, for its cache.
_TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 1 << 15}
_ROWS_AT_ONCE = {"cpu": 32, "cuda": 1024}
_LEAVES_AT_ONCE = {"cpu": 64, "cuda": 256}


@dataclass(frozen=True)
class Decoding:
    """Settings of decoding."""

    template: int
    """Number of the prompt."""
    num_beams: int
    likelihood: Literal["text", "catalogue"]
    length_penalty: float = 0.0


class _IDScorer:
    """A recommender over a catalogue of IDs, in evaluation mode; valid until it is trained further."""

    def __init__(
        self,
        recommender: TextModel,
        builder: PromptBuilder,
        table: Tensor,
        tree: PrefixTree,
        decoding: Decoding,
        only: Tensor | None = None,
    ) -> None:
        """`table` [N + 1, T] holds the IDs, row 0 padding; `only` [C] the items to score, by default all."""
        self.num_items = tree.num_items if only is None else len(only)
        self._recommender = recommender.eval()
        self._builder, self._table, self._tree = builder, table, tree
        self._decoding, self._only = decoding, only
        self._penalty = LengthPenalty.build(tree, decoding.length_penalty)

    def exact_scorer(self) -> ExactScorer:
        """Returns a scorer by the likelihood of every item."""
        return self._exact(None)

    def restrict_to(self, numbers: Tensor) -> ExactScorer:
        """Returns a scorer of these items only; see `core.protocols`. Shapes: numbers [C] int64."""
        return self._exact(numbers.to(self._table.device))

    def _exact(self, only: Tensor | None) -> ExactScorer:
        return ExactScorer(
            self._recommender, self._builder, self._table, self._tree, self._decoding, only
        )

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores the ID of every item. Slow for a large catalogue.

        Shapes: [B, L], [B] -> [B, N].
        """
        scores = torch.empty(len(items), self.num_items, device=items.device)
        leaves = _size(_LEAVES_AT_ONCE, items)
        for rows, state in self._states(items):
            scores[rows] = score_items(
                state,
                self._tree,
                self._likelihood(state),
                items=self._only,
                leaves_at_once=leaves,
                penalty=self._penalty,
            )
        return scores

    def score_candidates(self, items: Tensor, lengths: Tensor, candidates: Tensor) -> Tensor:
        """Scores the candidates of each history; see `core.protocols`.

        Shapes: [B, L], [B], candidates [B, C] item numbers, 0 where padded -> [B, C].
        """
        scores = torch.empty(candidates.shape, device=items.device)
        for rows, state in self._states(items):
            scores[rows] = score_candidates(
                state, self._tree, self._likelihood(state), candidates[rows], self._penalty
            )
        return scores

    def _likelihood(self, state: DecodingState) -> Likelihood:
        if self._decoding.likelihood == "text":
            return VocabularyLikelihood(self._tree, state.head)
        return BranchLikelihood(self._tree, state.head)

    def _states(self, items: Tensor) -> Iterator[tuple[Tensor, DecodingState]]:
        """Encodes prompts of similar length together; yields their row numbers and decoding state."""
        for rows, tokens, mask in self._prompts(items):
            with torch.inference_mode():
                state = self._recommender.start(tokens, mask)
            yield rows, state

    def _prompts(self, items: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yields prompts of similar length together: their row numbers, tokens and mask."""
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
                yield rows, prompts.tokens[rows, :longest], prompts.mask[rows, :longest]


class ExactScorer(_IDScorer):
    """Scores the whole catalogue, or some of its items."""


class BeamScorer(_IDScorer):
    """Lists the best items by beam search over the prefix tree of IDs.

    On a CUDA device the passes of few prompts are recorded as graphs (`FixedDecoder`).
    """

    def __init__(
        self,
        recommender: TextModel,
        builder: PromptBuilder,
        table: Tensor,
        tree: PrefixTree,
        decoding: Decoding,
        recorder: Recorder | None = None,
    ) -> None:
        """See `_IDScorer`; `recorder` records passes, by default as CUDA graphs on a CUDA device."""
        super().__init__(recommender, builder, table, tree, decoding)
        self._decoder: FixedDecoder | None = None
        if isinstance(recommender, DecoderOnly) and FixedDecoder.supports(recommender):
            recorder = recorder or build_recorder(table.device, strict=False)
            if recorder is not None:
                self._decoder = FixedDecoder(recommender, recorder)

    @property
    def list_size(self) -> int:
        """Default number of items in a list: one for each beam."""
        return min(self._decoding.num_beams, self.num_items)

    def best(
        self, items: Tensor, lengths: Tensor, k: int, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Lists the `k` best unseen items, with at least `num_beams` beams; see `core.protocols`.

        Shapes: items [B, L], lengths [B], seen [B, S] -> items and scores [B, k].
        """
        beams = min(max(k, self._decoding.num_beams), self.num_items)
        listed = items.new_zeros(len(items), k, dtype=torch.int64)
        scores = torch.full((len(items), k), float("-inf"), device=items.device)
        top = min(k, self.num_items)
        for rows, tokens, mask in self._prompts(items):
            hidden = None if seen is None else seen[rows]
            best = self._search(tokens, mask, beams, top, hidden)
            listed[rows, :top], scores[rows, :top] = best.items, best.scores
        return listed, scores

    @torch.inference_mode()
    def _search(
        self, tokens: Tensor, mask: Tensor, beams: int, top: int, seen: Tensor | None
    ) -> SearchResult:
        """Searches in fixed memory where it can. Shapes: tokens, mask [B, P], seen [B, S]."""

        def search(state: DecodingState) -> SearchResult:
            likelihood = self._likelihood(state)
            return beam_search(
                state,
                self._tree,
                likelihood,
                num_beams=beams,
                top=top,
                seen=seen,
                penalty=self._penalty,
            )

        if self._decoder is not None:
            room = beams * self._table.shape[1]
            with self._decoder.start(tokens, mask, room) as state, suppress(RoomError):
                if state is not None:
                    return search(state)
        return search(self._recommender.start(tokens, mask))


def _size(sizes: dict[str, int], values: Tensor) -> int:
    return sizes.get(values.device.type, sizes["cpu"])
