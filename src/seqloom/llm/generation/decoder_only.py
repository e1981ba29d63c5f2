"""Decoder-only (causal) language models of any architecture that transformers has."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.llm.generation.text_model import Ancestors, TextModel, shift_targets
from seqloom.nn.linear import padded_linear


class DecoderOnly(TextModel):
    """A causal language model: prompt and continuation are one sequence."""

    def logits(self, prompt: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """Shapes: [B, P, D], [B, P], [B, T] -> [B, T, V']."""
        fed = shift_targets(targets)
        whole = torch.cat([prompt, self.embed_outputs(fed)], 1)
        whole_mask = torch.cat([mask, targets[:, :-1] >= 0], 1)
        hidden = self.hidden(whole, whole_mask)
        last = _last_state(hidden[:, : prompt.shape[1]], mask)[:, None]
        return self.project(torch.cat([last, hidden[:, prompt.shape[1] :]], 1))

    def hidden(self, embeddings: Tensor, mask: Tensor | None = None) -> Tensor:
        """Hidden states of a causal pass.

        Rows that are padded on the right need no mask: nothing real sees what comes after it.

        Shapes: [B, P, D], [B, P] -> [B, P, D].
        """
        found: Tensor = self._body(
            inputs_embeds=embeddings,
            attention_mask=None if mask is None else mask.long(),
            position_ids=None if mask is None else _positions(mask),
            use_cache=False,
        ).last_hidden_state
        return found

    def project(self, hidden: Tensor) -> Tensor:
        """Scores of the output tokens. Shapes: [..., D] -> [..., V']."""
        return padded_linear(hidden, self.head())

    def start(self, tokens: Tensor, mask: Tensor) -> _DecoderOnlyState:
        """Shapes: [B, P], [B, P]."""
        return _DecoderOnlyState(self, tokens, mask)

    def head(self) -> Tensor:
        """Rows of the output layer. Shapes: -> [V', D]."""
        return self.output_rows(self.network.get_output_embeddings().weight)

    @property
    def _body(self) -> torch.nn.Module:
        return self.network.base_model


class _DecoderOnlyState:
    """The key-value cache of the prompts, and of the tokens after them in the order they came."""

    def __init__(self, model: DecoderOnly, tokens: Tensor, mask: Tensor) -> None:
        from transformers import DynamicCache

        self._model = model
        self._mask = mask
        self.head = model.head()
        self._lengths = mask.sum(1)
        self._cache = DynamicCache()
        hidden = model._body(
            inputs_embeds=model.embed(tokens),  # padded on the right: see `hidden`
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        self.first = _last_state(hidden, mask)
        self._ancestors = Ancestors(0, mask.device)

    def rewind(self) -> None:
        """Forget every token but keep the prompts."""
        if self._ancestors.laid:
            self._cache.crop(-self._ancestors.laid)
        self._ancestors = Ancestors(0, self._mask.device)

    def keep(self, rows: Tensor) -> None:
        """See `DecodingState`."""
        self._cache.batch_select_indices(rows)
        self._mask, self._lengths, self.first = (
            self._mask[rows],
            self._lengths[rows],
            self.first[rows],
        )
        self._ancestors.keep(rows)

    def step(self, tokens: Tensor, parents: Tensor, runs: Tensor) -> Tensor:
        """Shapes: [B, M], [B, M], [B, M] -> [B, M, D]."""
        batch, count = tokens.shape
        own, depths = self._ancestors.grow(parents, runs)
        prompt = self._mask[:, None].expand(-1, count, -1)
        hidden: Tensor = self._model._body(
            inputs_embeds=self._model.embed_outputs(tokens),
            attention_mask=torch.cat([prompt, own.expand(batch, -1, -1)], 2)[
                :, None
            ],  # [B, 1, M, P + S]
            position_ids=self._lengths[:, None] + depths,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        return hidden


def _last_state(hidden: Tensor, mask: Tensor) -> Tensor:
    """The state at the last real place of each row. Shapes: [B, P, D], [B, P] -> [B, D]."""
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]


def _positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)
