"""Encodes texts with models of the sentence-transformers library."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqloom.core.device import resolve_device
from seqloom.core.errors import AssetError, ConfigError, EmbeddingError
from seqloom.hub.model_files import sentence_modules
from seqloom.hub.model_folders import weights_hash
from seqloom.hub.pretrained import LOCAL, at, check_finite, check_module, reason
from seqloom.hub.quiet import quiet_transformers
from seqloom.nn.linear import use_onednn
from seqloom.text.encoders.ahead import (
    DEVICE_CHUNK,
    batches_ahead,
    encode_batches,
    tokens_for,
)
from seqloom.text.encoders.base import LONG, text_batches
from seqloom.text.options import Dtype, resolve_dtype
from seqloom.text.tuned_manifest import read_tuned_manifest

_TEXTS = 64


class SentenceEncoder:
    """A sentence-transformers model with its own pooling and normalisation.

    `folder` is the model's local folder. `max_tokens` lowers the model's own limit. The model is loaded
    at the first `encode`. On a GPU texts are tokenised ahead of it, and batches hold many tokens.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        batch_size: int | None = None,
        max_tokens: int | None = None,
        device: str = "auto",
        dtype: Dtype = "auto",
    ) -> None:
        self.name = name
        self.folder = folder
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype, self.device)
        self.ahead = self.device.type == "cuda" or self.dtype != "float32"
        """Whether texts are tokenised while the device computes."""
        self.truncated = 0
        self.chunk = DEVICE_CHUNK if self.device.type == "cuda" else 4 * (batch_size or _TEXTS)

    def provenance(self) -> dict[str, Any]:
        """See `TextEncoder`."""
        tuned = read_tuned_manifest(self.folder)
        return {
            "kind": "sentence-transformers",
            "name": self.name,
            "weights_sha256": self._weights_hash,
            "max_tokens": self.max_tokens,
            **({} if self.dtype == "float32" else {"dtype": self.dtype}),
            **({} if tuned is None else {"tuned_on": tuned.training}),
        }

    @cached_property
    def _weights_hash(self) -> str:
        return weights_hash(self.folder)

    @cached_property
    def model(self) -> Any:
        """The loaded SentenceTransformer.

        Raises:
            AssetError: the library cannot read the folder, or it lacks weights.
            ConfigError: `max_tokens` is above the model's own limit.
        """
        from sentence_transformers import SentenceTransformer

        with quiet_transformers():
            try:
                model = SentenceTransformer(
                    str(self.folder),
                    device=str(self.device),
                    model_kwargs={"use_safetensors": True},
                    **LOCAL,
                )
            except Exception as error:  # the library may raise any exception on an unknown folder
                raise AssetError(
                    f"sentence-transformers cannot load {self.name} from {self.folder}: {reason(error)}"
                ) from error
        self._check_weights(model)
        own = model.max_seq_length
        if self.max_tokens is not None:
            if own is not None and self.max_tokens > own:
                raise ConfigError(
                    f"max_tokens is {self.max_tokens}, but {self.name} reads at most {own}"
                )
            model.max_seq_length = self.max_tokens
        use_onednn(model)
        return model

    def _check_weights(self, model: Any) -> None:
        """Raises AssetError if a module has weights that are missing in its folder, or NaN."""
        from transformers import PreTrainedModel

        name = at(self.name, self.folder)
        for folder, module in zip(sentence_modules(self.folder), model.children(), strict=True):
            inner = getattr(module, "auto_model", None)
            # The library itself checks the weights of its own modules.
            if isinstance(inner, PreTrainedModel):
                settings = "".join(f.read_text("utf-8") for f in folder.glob("sentence_*.json"))
                check_module(inner, folder, name, pooled="pooler_output" in settings)
        check_finite(model, name)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """See `TextEncoder`.

        Differs: batches are sorted by the number of tokens, where the library sorts by characters;
            the vectors are the library's own.

        Shapes: B texts -> [B, E] float32.
        """
        model = self.model
        if self.ahead and _is_plain(model):
            return self._encode_ahead(texts)
        lengths = self._lengths(texts)
        limit = model.max_seq_length
        if limit is not None:
            self.truncated += sum(length > limit for length in lengths)
            lengths = [min(length, limit) for length in lengths]
        vectors: Tensor | None = None
        for rows in text_batches(lengths, self.batch_size or _TEXTS):
            try:
                with self._autocast():
                    encoded = model.encode(
                        [texts[row] for row in rows],
                        batch_size=len(rows),
                        show_progress_bar=False,
                        convert_to_tensor=True,
                    )
            except RuntimeError as error:
                raise EmbeddingError(
                    f"{self.name} failed on {len(rows)} texts of up to {max(lengths)} tokens: "
                    f"{error}; try a smaller batch_size"
                ) from error
            encoded = encoded.float().cpu()
            if vectors is None:
                vectors = torch.empty(len(texts), encoded.shape[1])
            vectors[rows] = encoded
        return torch.empty(0, 0) if vectors is None else vectors

    def _encode_ahead(self, texts: Sequence[str]) -> Tensor:
        """Encodes with the model's own tokenizer and modules. Shapes: B texts -> [B, E] float32."""
        model, limit = self.model, self.model.max_seq_length
        tokenise = getattr(model, "preprocess", None) or model.tokenize

        def count_tokens(group: list[str]) -> list[int]:
            lengths = self._lengths(group)
            self.truncated += sum(length > (limit or length) for length in lengths)
            return [min(length, limit or length) for length in lengths]

        width = getattr(model, "get_embedding_dimension", None) or (
            model.get_sentence_embedding_dimension
        )
        tokens = tokens_for(width() or 1024)
        if self.batch_size is not None:
            tokens = self.batch_size * LONG
        batches = batches_ahead(
            texts, count_tokens, tokenise, rows=self.batch_size or len(texts), tokens=tokens
        )

        def forward(features: dict[str, Any]) -> Tensor:
            with self._autocast():
                vectors: Tensor = model(features)["sentence_embedding"]
            return vectors

        return encode_batches(batches, forward, self.device, self.name)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.dtype))

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        """Counts the tokens of each text before truncation."""
        tokenizer = self.model.tokenizer
        if not callable(tokenizer):
            return [len(text) for text in texts]
        with quiet_transformers():
            encoded = tokenizer(list(texts), truncation=False, padding=False)
        return [len(ids) for ids in encoded["input_ids"]]


def _is_plain(model: Any) -> bool:
    """Returns whether a model's vectors are the result of its modules: no prompt before, no cut after."""
    return (
        callable(model.tokenizer)
        and getattr(model, "default_prompt_name", None) is None
        and getattr(model, "truncate_dim", None) is None
    )


def build_sentence_model(modules: Sequence[Any]) -> Any:
    """Builds a SentenceTransformer of modules in memory; nothing is read."""
    from sentence_transformers import SentenceTransformer

    with quiet_transformers():
        return SentenceTransformer(modules=list(modules), device="cpu")


def load_pooled(name: str, folder: Path, pooling: str) -> Any:
    """Loads a language model that has no modules of sentence-transformers, and pools it.

    Args:
        name: the model's name in error messages.
        pooling: `pooling_mode` of sentence-transformers, such as `mean` or `lasttoken`.

    Raises:
        AssetError: the folder cannot be read or lacks weights, or some are NaN or infinite.
    """
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    with quiet_transformers():
        try:
            body = Transformer(
                str(folder),
                model_kwargs={"use_safetensors": True, **LOCAL},
                processor_kwargs=LOCAL,
                config_kwargs=LOCAL,
            )
        except Exception as error:  # the library may raise any exception on an unknown folder
            raise AssetError(
                f"{name} cannot be loaded as a text encoder: {reason(error)}"
            ) from error
    check_module(body.auto_model, folder, name, pooled=False)
    model = build_sentence_model([body, Pooling(body.get_embedding_dimension(), pooling)])
    check_finite(model, name)
    return model
