"""Encodes texts as bags of words and pairs of words, with vectors that `tune-encoder` trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError
from seqloom.core.files import sha256_file
from seqloom.core.tensors import write_tensors
from seqloom.hub.model_folders import weights_hash
from seqloom.text.tuned_manifest import read_tuned_manifest
from seqloom.text.words.vectors import WordVectors
from seqloom.text.words.vocabulary import WORDS, Vocabulary

_VECTORS = "model.safetensors"
_REMEDY = "run `seqloom tune-encoder --overwrite`"


class WordEncoder:
    """A vector for each word and pair of words; a text's vector is their sum, scaled to length 1.

    `folder` holds the files of `save_words`. They are read at the first `encode`.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.truncated = 0
        self.chunk = 4096

    def provenance(self) -> dict[str, Any]:
        """See `TextEncoder`."""
        return self._provenance

    @cached_property
    def _provenance(self) -> dict[str, Any]:
        tuned = read_tuned_manifest(self.folder)
        return {
            "kind": "words",
            "name": self.name,
            "weights_sha256": weights_hash(self.folder),
            "words_sha256": sha256_file(self.folder / WORDS),
            **({} if tuned is None else {"tuned_on": tuned.training}),
        }

    @cached_property
    def _loaded(self) -> tuple[Vocabulary, WordVectors]:
        vocabulary = Vocabulary.load(self.folder)
        file = self.folder / _VECTORS
        with reading(file, "word vectors", _REMEDY):
            vectors = load_file(file)["vectors"]
        if vectors.ndim != 2 or len(vectors) != vocabulary.size:
            raise ArtefactError(
                f"{file} has shape {tuple(vectors.shape)} for {vocabulary.size} words; {_REMEDY}"
            )
        words = WordVectors(len(vectors), vectors.shape[1]).eval()
        with torch.no_grad():
            words.vectors.copy_(vectors)
        return vocabulary, words

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """See `TextEncoder`.

        Shapes: B texts -> [B, E] float32.
        """
        vocabulary, words = self._loaded
        vectors: Tensor = words(vocabulary.bags(texts))
        return vectors


def save_words(folder: Path, vocabulary: Vocabulary, vectors: Tensor) -> None:
    """Writes a vocabulary and its vectors, weights included. Shapes: vectors [V, E]."""
    vocabulary.save(folder)
    write_tensors(folder / _VECTORS, {"vectors": vectors.contiguous().cpu()})
