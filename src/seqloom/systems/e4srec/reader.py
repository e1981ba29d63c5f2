"""Reads histories with a language model: instruction tokens, one position per item, response tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqloom.core.errors import ConfigError
from seqloom.llm.plugins.adapters import Adapter
from seqloom.llm.plugins.alpaca import RESPONSE, prompt_before_input
from seqloom.llm.plugins.prefix_cache import SequenceBatch, is_supported, last_states
from seqloom.nn.attention import last_position
from seqloom.nn.dropout import Dropout


@dataclass(frozen=True)
class Prefix:
    """The language model's encoding of the instruction, which all histories share."""

    layers: list[tuple[Tensor, Tensor]]
    """Keys and values of each layer, [1, H, T, D / H]."""
    state: Tensor
    """[1, D], the state after the instruction, which also stands for an empty history."""

    def expand(self, batch: int) -> Any:
        """Returns a cache for `batch` histories; gradients flow back into the prefix."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for number, (keys, values) in enumerate(self.layers):
            size = (batch, -1, -1, -1)
            cache.update(keys.expand(size), values.expand(size), number)
        return cache


class HistoryReader(nn.Module):
    """[instruction] + projected item IDs (+ [response]) -> states of the adapted language model.

    Histories are padded on the right and positions follow those of the instruction, so an item has the
    same position in training and at inference, whatever else is in the batch. A causal model reads
    the instruction once for a whole batch and needs no padding mask.

    Source: E4SRec, section 3.3.
    Differs: the authors pad inside the prompt in training and not at inference.
    """

    def __init__(
        self, adapter: Adapter, id_size: int, instruction: str, *, respond: bool, dropout: float
    ) -> None:
        """`respond` appends the response tokens of the template to the items."""
        super().__init__()
        self.adapter = adapter
        self.respond = respond
        base = adapter.base
        self.causal = base.config.kind == "causal"
        self.projection = nn.Linear(id_size, base.width)
        self.dropout = Dropout(dropout)
        self._before = base.tokenizer(prompt_before_input(instruction))["input_ids"]
        after = base.tokenizer(RESPONSE, add_special_tokens=False)["input_ids"]
        self._after = after if respond else []

    @property
    def added_tokens(self) -> tuple[int, int]:
        """Number of word tokens before the items, and after them."""
        return len(self._before), len(self._after)

    def read_prefix(self) -> Prefix:
        """Encodes the instruction; at inference once for all histories.

        Raises:
            ConfigError: the language model returns no reusable keys and values.
        """
        tokens = self.adapter.base.embed(self._before)[None]  # [1, T, D]
        out = self.adapter.run(tokens, use_cache=True)
        cache = getattr(out, "past_key_values", None)
        layers = getattr(cache, "layers", None)
        if not layers or getattr(layers[0], "keys", None) is None:
            raise ConfigError(
                f"{self.adapter.base.reference.name} returns no keys and values that histories can "
                "share; use a transformer language model"
            )
        pairs = [(layer.keys, layer.values) for layer in layers]
        return Prefix(pairs, out.last_hidden_state[:, -1].float())

    def forward(self, ids: Tensor, lengths: Tensor, prefix: Prefix | None = None) -> Tensor:
        """Returns the state at every item, or with response tokens the state at the last of them.

        Args:
            ids: embeddings of the items.
            prefix: result of `read_prefix`; computed if not given.

        Shapes: ids [B, L, d], lengths [B] -> [B, L, D], with response tokens [B, D].
        """
        x, total = self._lay_out(self.dropout(self.projection(ids)), lengths)
        states = self._run_causal(x, prefix) if self.causal else self._run_whole(x, total)
        states = self.dropout(states.float())
        return last_position(states, total) if self.respond else states

    @property
    def lean(self) -> bool:
        """Whether `last_states` supports the language model."""
        return self.causal and is_supported(self.adapter.base.backbone)

    @torch.no_grad()
    def lay_out(self, ids: Tensor, lengths: Tensor) -> SequenceBatch:
        """Returns histories as inputs of `last_states`. Shapes: ids [B, L, d], lengths [B]."""
        x, total = self._lay_out(self.projection(ids), lengths)
        return SequenceBatch(x.to(self.adapter.base.dtype), total.clamp(min=1))

    def last_states(self, parts: Sequence[SequenceBatch], prefix: Prefix) -> list[Tensor]:
        """Returns the state after each history, without dropout; equals the last state of `forward`.

        Shapes: -> for each part [B, D].
        """
        adapter = self.adapter
        with adapter.base.activate(adapter.name, training=False) as backbone:
            return last_states(backbone, adapter.name, prefix.layers, parts)

    def _lay_out(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Inserts the response tokens after each row's last item. Shapes: -> [B, L', D], [B]."""
        if not self._after:
            return x, lengths
        after = self.adapter.base.embed(self._after).to(x.dtype)  # [R, D]
        count = len(after)
        x = nn.functional.pad(x, (0, 0, 0, count))
        places = lengths[:, None] + torch.arange(count, device=x.device)  # [B, R]
        index = places[..., None].expand(-1, -1, x.shape[-1])
        return x.scatter(1, index, after.expand(len(x), -1, -1)), lengths + count

    def _run_causal(self, x: Tensor, prefix: Prefix | None) -> Tensor:
        prefix = prefix or self.read_prefix()
        start = len(self._before)
        positions = torch.arange(start, start + x.shape[1], device=x.device)[None]
        cache = prefix.expand(len(x))
        out = self.adapter.run(x, past_key_values=cache, position_ids=positions)
        states: Tensor = out.last_hidden_state
        return states

    def _run_whole(self, x: Tensor, total: Tensor) -> Tensor:
        """Runs a bidirectional model on the whole prompt, with a padding mask."""
        before = self.adapter.base.embed(self._before).to(x.dtype).expand(len(x), -1, -1)
        count = before.shape[1]
        mask = torch.arange(count + x.shape[1], device=x.device) < (total + count)[:, None]
        out = self.adapter.run(torch.cat([before, x], 1), attention_mask=mask.long())
        states: Tensor = out.last_hidden_state[:, count:]
        return states


def embed(items: Tensor, ids: Tensor) -> Tensor:
    """Looks up ID embeddings of histories. Shapes: items [B, L] item numbers, ids [N, d] -> [B, L, d]."""
    return F.embedding((items - 1).clamp(min=0), ids)
