"""Encoder-decoder language models of the T5 family."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.llm.generation.text_model import Ancestors, TextModel, shift_targets
from seqloom.nn.linear import padded_linear

FAMILY = ("t5", "mt5")
"""Supported values of `model_type`: `_EncoderDecoderState` runs their decoder layers itself."""


class EncoderDecoder(TextModel):
    """A T5 whose encoder reads the prompt and whose decoder generates the continuation.

    Differs: decoding runs the decoder's layers on a tree of tokens (see `DecodingState`). transformers' T5
    cannot do that, because it counts relative positions along the input.
    """

    def __init__(self, network: Any, output_tokens: Tensor) -> None:
        """Wraps a transformers model.

        Raises:
            ConfigError: the network is of another family.
        """
        family = network.config.model_type
        if family not in FAMILY:
            raise ConfigError(
                f"the encoder-decoder has type {family!r}; supported are {', '.join(FAMILY)}"
            )
        super().__init__(network, output_tokens)

    def logits(self, prompt: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """See `TextModel`. Shapes: [B, P, D], [B, P], [B, T] -> [B, T, V']."""
        encoded = self.encode(prompt, mask)
        start = self.start_embedding(len(targets))
        inputs = torch.cat([start, self.embed_outputs(shift_targets(targets))], 1)  # [B, T, D]
        hidden = self.network.decoder(
            inputs_embeds=inputs,
            encoder_hidden_states=encoded,
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        return padded_linear(self.scaled(hidden), self.head())

    def start(self, tokens: Tensor, mask: Tensor) -> _EncoderDecoderState:
        """Encodes prompts for decoding. Shapes: [B, P], [B, P]."""
        return _EncoderDecoderState(self, self.encode(self.embed(tokens), mask), mask)

    def encode(self, prompt: Tensor, mask: Tensor) -> Tensor:
        """Runs the encoder. Shapes: [B, P, D], [B, P] -> [B, P, D]."""
        return self.network.encoder(inputs_embeds=prompt, attention_mask=mask).last_hidden_state

    def start_embedding(self, batch: int) -> Tensor:
        """Embeds the decoder's start token. Shapes: -> [B, 1, D]."""
        token = int(self.network.config.decoder_start_token_id)
        return self.embed(torch.full((batch, 1), token, device=self.output_tokens.device))

    def head(self) -> Tensor:
        """Returns the output layer's rows of the output tokens. Shapes: -> [V', D]."""
        return self.output_rows(self.network.get_output_embeddings().weight)

    def scaled(self, hidden: Tensor) -> Tensor:
        """Scales the last hidden states, as T5 does where the output layer is the embedding matrix."""
        if self.network.config.scale_decoder_outputs:
            return hidden * self.network.model_dim**-0.5
        return hidden


class _EncoderDecoderState:
    """Keys and values: of the encoder's output once a prompt, of decoded tokens once a slot."""

    def __init__(self, model: EncoderDecoder, encoded: Tensor, mask: Tensor) -> None:
        self._model = model
        self._blocks = model.network.decoder.block
        self.head = model.head()
        self._cross = []
        for block in self._blocks:
            attention = block.layer[1].EncDecAttention
            self._cross.append((_split(attention, "k", encoded), _split(attention, "v", encoded)))
        self._cross_mask = mask[:, None, None, :]  # [B, 1, 1, P]
        self._bias = _distance_bias(self._blocks[0].layer[0].SelfAttention)
        self._ancestors = Ancestors(1, self.head.device)
        self._own: list[tuple[Tensor, Tensor]] = []
        self.first = self._run(model.start_embedding(len(mask)), self._start_bias())[:, 0]

    def rewind(self) -> None:
        """Drops all tokens but the start token."""
        self._ancestors = Ancestors(1, self.head.device)
        self._own = [(keys[:, :, :1], values[:, :, :1]) for keys, values in self._own]

    def keep(self, rows: Tensor) -> None:
        """See `DecodingState`."""
        self._cross = [(keys[rows], values[rows]) for keys, values in self._cross]
        self._own = [(keys[rows], values[rows]) for keys, values in self._own]
        self._cross_mask = self._cross_mask[rows]
        self.first = self.first[rows]
        self._ancestors.keep(rows)

    def step(self, tokens: Tensor, parents: Tensor, runs: Tensor) -> Tensor:
        """Appends tokens, see `DecodingState`. Shapes: [B, M], [B, M], [B, M] -> [B, M, D]."""
        seen, depths = self._ancestors.grow(parents, runs)
        # Relative positions are differences of depth in the tree of tokens.
        distance = depths[:, :, None] - self._ancestors.depths[:, None, :]  # [B, M, S]
        bias = self._bias[:, distance.clamp(0, self._bias.shape[1] - 1)].transpose(0, 1)
        bias = bias.masked_fill(~seen[:, None], float("-inf"))  # [B, H, M, S]
        return self._run(self._model.embed_outputs(tokens), bias)

    def _start_bias(self) -> Tensor:
        """Returns the bias of the start token on itself."""
        return self._bias[None, :, :1, None]  # [1, H, 1, 1]

    def _run(self, x: Tensor, bias: Tensor) -> Tensor:
        """Runs the decoder's blocks on new tokens. Shapes: [B, M, D], [B, H, M, S] -> [B, M, D]."""
        for number, block in enumerate(self._blocks):
            x = x + self._attend_own(number, block.layer[0], x, bias)
            x = x + self._attend_prompt(number, block.layer[1], x)
            x = block.layer[-1](x)
        return self._model.scaled(self._model.network.decoder.final_layer_norm(x))

    def _attend_own(self, number: int, layer: Any, x: Tensor, bias: Tensor) -> Tensor:
        """Attends to the tokens' own ancestors; appends their keys and values to the cache."""
        attention = layer.SelfAttention
        normed = layer.layer_norm(x)
        keys, values = _split(attention, "k", normed), _split(attention, "v", normed)
        if number < len(self._own):
            before = self._own[number]
            keys, values = torch.cat([before[0], keys], 2), torch.cat([before[1], values], 2)
            self._own[number] = (keys, values)
        else:
            self._own.append((keys, values))
        return _attend(attention, normed, keys, values, bias)

    def _attend_prompt(self, number: int, layer: Any, x: Tensor) -> Tensor:
        """Attends to the encoder's output."""
        keys, values = self._cross[number]
        normed = layer.layer_norm(x)
        return _attend(layer.EncDecAttention, normed, keys, values, self._cross_mask)


def _distance_bias(attention: Any) -> Tensor:
    """Returns T5's relative position bias for each distance back; the last entry serves all larger ones.

    Shapes: -> [H, distances].
    """
    table = attention.relative_attention_bias
    distance = torch.arange(
        attention.relative_attention_max_distance + 1, device=table.weight.device
    )
    bucket = attention._relative_position_bucket(
        -distance,
        bidirectional=False,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    return table(bucket).t()


def _split(attention: Any, name: str, x: Tensor) -> Tensor:
    """Projects and splits into heads. Shapes: [B, M, D] -> [B, H, M, d]."""
    projected = getattr(attention, name)(x)
    heads = projected.view(*x.shape[:2], attention.n_heads, attention.key_value_proj_dim)
    return heads.transpose(1, 2)


def _attend(attention: Any, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Attends without scaling the scores, as T5 does. Shapes: x [B, K, D], keys [B, H, S, d] -> [B, K, D]."""
    query = _split(attention, "q", x)
    mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=1.0)
    return attention.o(mixed.transpose(1, 2).flatten(2))
