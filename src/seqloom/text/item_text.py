"""Text embeddings of new items, with the encoder and template of existing embeddings."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from seqloom.core.errors import EmbeddingError
from seqloom.core.files import sha256_text
from seqloom.core.progress import SILENT, Progress
from seqloom.text.encoders import TextEncoder, check_vectors, rebuild_encoder
from seqloom.text.encoders.base import InteractiveEncoder
from seqloom.text.prompts import item_texts


class ItemText:
    """Renders and embeds items as `seqloom embed` did.

    `manifest` is the manifest of the embeddings, `columns` are the columns of the catalogue.
    """

    _encoders: dict[str, TextEncoder] = {}  # noqa: RUF012 (shared: models of one encoder load it once)
    _loading = threading.Lock()

    def __init__(self, manifest: Mapping[str, Any], columns: Sequence[str]) -> None:
        self.name: str = manifest["name"]
        self.columns = [name for name in columns if name != "item_id"]
        self.width = int(manifest["width"])
        self._template: str = manifest["items"]["template"] or "full"
        self._provenance: dict[str, Any] = manifest["encoder"]
        self._encoder_key = sha256_text(json.dumps(self._provenance, sort_keys=True))
        self.key = sha256_text(self._encoder_key, self._template, *self.columns)[:16]
        """Equal keys mean equal vectors for equal attributes."""

    def load(self, progress: Progress = SILENT) -> TextEncoder:
        """Returns the encoder, loaded at the first call. Raises the errors of `rebuild_encoder`."""
        with self._loading:
            encoder = self._encoders.get(self._encoder_key)
            if encoder is None:
                encoder = rebuild_encoder(self._provenance, progress)
                encoder.encode(["ready"])
                self._encoders[self._encoder_key] = encoder
        return encoder

    def embed(self, items: pa.Table, progress: Progress = SILENT) -> Tensor:
        """Embeds the rows of a table with `item_id` and the columns of the catalogue.

        Raises:
            SeqloomError: the encoder has changed, or fails.

        Shapes: -> [M, E] float32.
        """
        prompts = item_texts(items, self._template)
        if prompts.without_text:
            progress.warn(
                f"{prompts.without_text} new items have no text; their vectors carry little information"
            )
        texts = [text or "" for text in prompts.texts]
        ids = items.column("item_id").to_pylist()
        encoder = self.load(progress)
        parts = []
        with progress.task("encoding items", len(texts), "texts") as task:
            for start in range(0, len(texts), encoder.chunk):
                part = texts[start : start + encoder.chunk]
                with self._loading:
                    vectors = encoder.encode(part)
                parts.append(check_vectors(vectors, ids[start : start + len(part)], self.width))
                task.advance(len(part))
        return torch.cat(parts)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encodes texts that describe no item, without the template; somebody waits for them.

        Raises:
            SeqloomError: the encoder has changed, or fails.

        Shapes: B texts -> [B, E] float32.
        """
        encoder = self.load()
        if isinstance(encoder, InteractiveEncoder):  # threads may wait for it side by side
            vectors = encoder.interactive().encode(list(texts))
        else:
            with self._loading:
                vectors = encoder.encode(list(texts))
        return check_vectors(vectors, texts, self.width)

    def dump(self, vector: Tensor) -> bytes:
        """Converts a vector to bytes for storage."""
        return vector.contiguous().numpy().tobytes()

    def parse(self, data: bytes) -> Tensor:
        """Converts stored bytes to a vector.

        Raises:
            EmbeddingError: it has another width.
        """
        vector = torch.frombuffer(bytearray(data), dtype=torch.float32)
        if len(vector) != self.width:
            raise EmbeddingError(
                f"a stored vector has width {len(vector)}, but {self.width} is expected"
            )
        return vector
