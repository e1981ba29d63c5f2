"""Encodes texts with any Hugging Face language model: its last hidden states, pooled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqloom.core.device import resolve_device
from seqloom.core.errors import ConfigError, EmbeddingError
from seqloom.hub.model_folders import weights_hash
from seqloom.hub.pretrained import at, load_pretrained, load_settings
from seqloom.hub.quiet import quiet_transformers
from seqloom.nn.linear import use_onednn
from seqloom.text.encoders.ahead import (
    DEVICE_CHUNK,
    batches_ahead,
    encode_batches,
    tokens_for,
)
from seqloom.text.encoders.base import LONG, text_batches
from seqloom.text.options import Dtype, Pooling, resolve_dtype

_DEFAULT_TOKENS = 512
_TEXTS = 32


class LanguageModelEncoder:
    """A causal or an encoder language model without its output layer; vectors are not normalised.

    Pooling `mean` averages the hidden states of all real tokens, `last` takes that of the last real token
    (suited to causal models), `cls` that of the first. Of an encoder-decoder model only the encoder is
    used. The model is loaded at the first `encode`. On a GPU texts are tokenised ahead of it, and
    batches hold many tokens.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        pooling: Pooling = "mean",
        batch_size: int | None = None,
        max_tokens: int | None = None,
        device: str = "auto",
        dtype: Dtype = "auto",
    ) -> None:
        self.name = name
        self.folder = folder
        self.pooling = pooling
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype, self.device)
        self.ahead = self.device.type == "cuda"
        """Whether texts are tokenised while the device computes."""
        self.truncated = 0
        self.chunk = DEVICE_CHUNK if self.ahead else 4 * (batch_size or _TEXTS)
        self._limit = 0

    def provenance(self) -> dict[str, Any]:
        """See `TextEncoder`."""
        return {
            "kind": "transformers",
            "name": self.name,
            "weights_sha256": self._weights_hash,
            "pooling": self.pooling,
            "max_tokens": self.max_tokens or _DEFAULT_TOKENS,
            "dtype": self.dtype,
        }

    @cached_property
    def _weights_hash(self) -> str:
        return weights_hash(self.folder)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The model without its output layer, and its tokenizer."""
        from transformers import AutoModel, AutoTokenizer

        name = at(self.name, self.folder)
        tokenizer = load_settings(AutoTokenizer, self.folder, name)
        model = load_pretrained(
            AutoModel, self.folder, name, what="text encoder", dtype=getattr(torch, self.dtype)
        )
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        positions = getattr(model.config, "max_position_embeddings", None)
        own = min(positions or tokenizer.model_max_length, tokenizer.model_max_length)
        if self.max_tokens is not None and self.max_tokens > own:
            raise ConfigError(
                f"max_tokens is {self.max_tokens}, but {self.name} reads at most {own}"
            )
        self._limit = self.max_tokens or min(_DEFAULT_TOKENS, own)
        if tokenizer.pad_token is None:
            # Padded positions are masked, so any token can be the padding token.
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        tokenizer.padding_side = "right"
        use_onednn(model)
        return model.to(self.device).eval(), tokenizer

    def encode(self, texts: Sequence[str]) -> Tensor:
        """See `TextEncoder`.

        Shapes: B texts -> [B, E] float32.
        """
        model, tokenizer = self._loaded
        if self.ahead:
            return self._encode_ahead(texts)
        with quiet_transformers():
            ids = tokenizer(list(texts), truncation=False, padding=False)["input_ids"]
            self.truncated += sum(len(row) > self._limit for row in ids)
            cut = tokenizer(list(texts), truncation=True, max_length=self._limit)
        lengths = [len(row) for row in cut["input_ids"]]
        vectors = torch.empty(len(texts), model.config.hidden_size)
        for rows in text_batches(lengths, self.batch_size or _TEXTS):
            batch = tokenizer.pad(
                {name: [values[row] for row in rows] for name, values in cut.items()},
                return_tensors="pt",
            ).to(self.device)
            try:
                with torch.inference_mode():
                    hidden = model(**batch).last_hidden_state  # [b, T, E]
            except RuntimeError as error:
                raise EmbeddingError(
                    f"{self.name} failed on {len(rows)} texts of up to {lengths[rows[0]]} tokens: "
                    f"{error}; try a smaller batch_size or max_tokens"
                ) from error
            vectors[rows] = pool(hidden.float(), batch["attention_mask"], self.pooling).cpu()
        return vectors

    def _encode_ahead(self, texts: Sequence[str]) -> Tensor:
        """Encodes on a GPU, whose number format is that of the weights. Shapes: B texts -> [B, E] float32."""
        model, tokenizer = self._loaded

        def count_tokens(group: list[str]) -> list[int]:
            with quiet_transformers():
                ids = tokenizer(group, truncation=False, padding=False)["input_ids"]
            self.truncated += sum(len(row) > self._limit for row in ids)
            return [min(len(row), self._limit) for row in ids]

        def tokenise(group: list[str]) -> Any:
            return tokenizer(
                group, truncation=True, max_length=self._limit, padding=True, return_tensors="pt"
            )

        def forward(features: dict[str, Any]) -> Tensor:
            hidden = model(**features).last_hidden_state  # [b, T, E]
            return pool(hidden.float(), features["attention_mask"], self.pooling)

        tokens = tokens_for(model.config.hidden_size)
        if self.batch_size is not None:
            tokens = self.batch_size * LONG
        batches = batches_ahead(
            texts, count_tokens, tokenise, rows=self.batch_size or len(texts), tokens=tokens
        )
        return encode_batches(batches, forward, self.device, self.name)


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Pools each row of hidden states to one vector; `mask` is 1 at real tokens, which come first.

    Shapes: hidden [B, T, E], mask [B, T] -> [B, E].
    """
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        last = mask.sum(dim=1) - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    weights = mask[:, :, None].to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)
