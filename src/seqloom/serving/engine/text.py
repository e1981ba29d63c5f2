"""The text embedding of an item that is put in while serving, by the encoder of the training."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from seqloom.core.errors import ServingError
from seqloom.core.files import sha256_text
from seqloom.text.encoders import TextEncoder, check_vectors, rebuild_encoder
from seqloom.text.prompts import item_texts


class ItemText:
    """Renders and embeds as `seqloom embed` did for the run's own items.

    `told` is the text part of the run's manifest, `columns` the columns of its items.
    """

    _encoders: dict[str, TextEncoder] = {}  # noqa: RUF012 (shared: models of one encoder load it once)
    _loading = threading.Lock()

    def __init__(self, told: Mapping[str, Any], columns: Sequence[str]) -> None:
        self.columns = [name for name in columns if name != "item_id"]
        self.width = int(told["width"])
        self._template: str = told["items"]["template"]
        self._provenance: dict[str, Any] = told["encoder"]
        self._encoder_key = sha256_text(json.dumps(self._provenance, sort_keys=True))
        self.key = sha256_text(self._encoder_key, self._template, *self.columns)[:16]
        """Equal keys: equal vectors for equal attributes."""

    def load(self) -> TextEncoder:
        """The encoder, loaded at the first call. Raises what `rebuild_encoder` raises."""
        with self._loading:
            encoder = self._encoders.get(self._encoder_key)
            if encoder is None:
                encoder = rebuild_encoder(self._provenance)
                encoder.encode(["ready"])
                self._encoders[self._encoder_key] = encoder
        return encoder

    def embed(self, attributes: Mapping[str, str]) -> Tensor:
        """The embedding of one item.

        Raises:
            SeqloomError: the encoder is not what it was, or fails.

        Shapes: -> [E] float32.
        """
        row = {"item_id": [""], **{name: [attributes.get(name, "")] for name in self.columns}}
        text = item_texts(pa.table(row), self._template).texts[0] or ""
        encoder = self.load()
        with self._loading:
            vectors = check_vectors(encoder.encode([text]), ["the new item"], self.width)
        return vectors[0]

    def dump(self, vector: Tensor) -> bytes:
        """A vector as it is stored."""
        return vector.contiguous().numpy().tobytes()

    def parse(self, data: bytes) -> Tensor:
        """A stored vector.

        Raises:
            ServingError: it is of another width.
        """
        vector = torch.frombuffer(bytearray(data), dtype=torch.float32)
        if len(vector) != self.width:
            raise ServingError(f"a stored vector has width {len(vector)}, expected {self.width}")
        return vector
