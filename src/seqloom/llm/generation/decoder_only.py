"""Decoder-only (causal) language models of any architecture in transformers."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.llm.generation.text_model import Ancestors, TextModel, shift_targets
from seqloom.nn.linear import padded_linear


class DecoderOnly(TextModel):
    """A causal language model: prompt and continuation are one sequence."""

    def logits(self, prompt: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """See `TextModel`. Shapes: [B, P, D], [B, P], [B, T] -> [B, T, V']."""
        inputs = shift_targets(targets)
        whole = torch.cat([prompt, self.embed_outputs(inputs)], 1)  # [B, P + T - 1, D]
        whole_mask = torch.cat([mask, targets[:, :-1] >= 0], 1)
        hidden = self.hidden(whole, whole_mask)
        # The last real prompt position predicts the first target, targets predict those after them.
        last = last_state(hidden[:, : prompt.shape[1]], mask)[:, None]
        return self.project(torch.cat([last, hidden[:, prompt.shape[1] :]], 1))

    def hidden(self, embeddings: Tensor, mask: Tensor | None = None) -> Tensor:
        """Runs a causal pass and returns the hidden states.

        Rows padded on the right need no mask: no real position attends to a later one.

        Shapes: [B, P, D], [B, P] -> [B, P, D].
        """
        states: Tensor = self.body(
            inputs_embeds=embeddings,
            attention_mask=None if mask is None else mask.long(),
            position_ids=None if mask is None else _positions(mask),
            use_cache=False,
        ).last_hidden_state
        return states

    def project(self, hidden: Tensor) -> Tensor:
        """Projects states to scores of the output tokens. Shapes: [..., D] -> [..., V']."""
        return padded_linear(hidden, self.head())

    def start(self, tokens: Tensor, mask: Tensor) -> _DecoderOnlyState:
        """Encodes prompts for decoding. Shapes: [B, P], [B, P]."""
        return _DecoderOnlyState(self, tokens, mask)

    def head(self) -> Tensor:
        """Returns the output layer's rows of the output tokens. Shapes: -> [V', D]."""
        return self.output_rows(self.network.get_output_embeddings().weight)

    @property
    def body(self) -> torch.nn.Module:
        """The network without its output layer."""
        return self.network.base_model


class _DecoderOnlyState:
    """Key-value cache of the prompts and of the tokens appended to them, in order of arrival."""

    def __init__(self, model: DecoderOnly, tokens: Tensor, mask: Tensor) -> None:
        from transformers import DynamicCache

        self._model = model
        self._mask = mask
        self.head = model.head()
        self._lengths = mask.sum(1)
        self._cache = DynamicCache()
        hidden = model.body(
            inputs_embeds=model.embed(tokens),  # padded on the right: see `hidden`
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        self.first = last_state(hidden, mask)
        self._ancestors = Ancestors(0, mask.device)

    def rewind(self) -> None:
        """Drops all tokens and keeps the prompts."""
        if self._ancestors.count:
            self._cache.crop(-self._ancestors.count)
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
        """Appends tokens, see `DecodingState`. Shapes: [B, M], [B, M], [B, M] -> [B, M, D]."""
        batch, count = tokens.shape
        # A token attends to its prompt and to its own ancestors; siblings are masked.
        own, depths = self._ancestors.grow(parents, runs)
        prompt = self._mask[:, None].expand(-1, count, -1)
        hidden: Tensor = self._model.body(
            inputs_embeds=self._model.embed_outputs(tokens),
            attention_mask=torch.cat([prompt, own.expand(batch, -1, -1)], 2)[
                :, None
            ],  # [B, 1, M, P + S]
            position_ids=self._lengths[:, None] + depths,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        return hidden


def last_state(hidden: Tensor, mask: Tensor) -> Tensor:
    """Returns the state at the last real position of each row. Shapes: [B, P, D], [B, P] -> [B, D]."""
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]


def _positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)
