"""Text embeddings of items that were not there when the others were embedded, by the same encoder."""

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
from seqloom.text.prompts import item_texts


class ItemText:
    """Renders and embeds as `seqloom embed` did.

    `told` is the manifest of the embeddings, `columns` the columns of the catalogue.
    """

    _encoders: dict[str, TextEncoder] = {}  # noqa: RUF012 (shared: models of one encoder load it once)
    _loading = threading.Lock()

    def __init__(self, told: Mapping[str, Any], columns: Sequence[str]) -> None:
        self.name: str = told["name"]
        self.columns = [name for name in columns if name != "item_id"]
        self.width = int(told["width"])
        self._template: str = told["items"]["template"] or "full"
        self._provenance: dict[str, Any] = told["encoder"]
        self._encoder_key = sha256_text(json.dumps(self._provenance, sort_keys=True))
        self.key = sha256_text(self._encoder_key, self._template, *self.columns)[:16]
        """Equal keys: equal vectors for equal attributes."""

    def load(self, progress: Progress = SILENT) -> TextEncoder:
        """The encoder, loaded at the first call. Raises what `rebuild_encoder` raises."""
        with self._loading:
            encoder = self._encoders.get(self._encoder_key)
            if encoder is None:
                encoder = rebuild_encoder(self._provenance, progress)
                encoder.encode(["ready"])
                self._encoders[self._encoder_key] = encoder
        return encoder

    def embed(self, items: pa.Table, progress: Progress = SILENT) -> Tensor:
        """The embeddings of a table's rows: `item_id` and the columns of the catalogue.

        Raises:
            SeqloomError: the encoder is not what it was, or fails.

        Shapes: -> [M, E] float32.
        """
        prompts = item_texts(items, self._template)
        if prompts.without_text:
            progress.warn(
                f"{prompts.without_text} new items have no text; their vectors say little"
            )
        texts = [text or "" for text in prompts.texts]
        ids = items.column("item_id").to_pylist()
        encoder = self.load(progress)
        found = []
        with progress.task("encoding items", len(texts), "texts") as task:
            for start in range(0, len(texts), encoder.chunk):
                part = texts[start : start + encoder.chunk]
                with self._loading:
                    vectors = encoder.encode(part)
                found.append(check_vectors(vectors, ids[start : start + len(part)], self.width))
                task.advance(len(part))
        return torch.cat(found)

    def dump(self, vector: Tensor) -> bytes:
        """A vector as it is stored."""
        return vector.contiguous().numpy().tobytes()

    def parse(self, data: bytes) -> Tensor:
        """A stored vector.

        Raises:
            EmbeddingError: it is of another width.
        """
        vector = torch.frombuffer(bytearray(data), dtype=torch.float32)
        if len(vector) != self.width:
            raise EmbeddingError(f"a stored vector has width {len(vector)}, expected {self.width}")
        return vector
