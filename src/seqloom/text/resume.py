"""Encoding many texts so that a killed run goes on where it stopped."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from seqloom.core.files import atomic_file, sha256_text
from seqloom.core.progress import SILENT, Progress
from seqloom.core.tensors import write_tensors
from seqloom.text.encoders.base import TextEncoder, check_vectors


def content_hash(encoder: TextEncoder, texts: Sequence[str | None]) -> str:
    """SHA-256 of everything that decides the vectors: the encoder and the texts in their order."""
    return content_hash_of(encoder.provenance(), texts)


def content_hash_of(provenance: dict[str, Any], texts: Sequence[str | None]) -> str:
    """The same, of an encoder that is known by its provenance alone."""
    identity = json.dumps(provenance, sort_keys=True, ensure_ascii=False)
    return sha256_text(identity, *("\0" if text is None else text for text in texts))


def encode_all(
    encoder: TextEncoder,
    texts: Sequence[str],
    ids: Sequence[str],
    work: Path,
    *,
    name: str,
    shard: int | None = None,
    progress: Progress = SILENT,
) -> tuple[Tensor, int, int]:
    """Vectors of all texts, the number of texts cut at the encoder's limit, and of texts reused.

    Finished shards lie in `work`, which must belong to these texts and this encoder alone (its name
    holds their content hash); the caller removes it when the result is safe. A shard holds texts of
    similar length, so that little padding is computed; a killed run loses at most one.

    Raises:
        EmbeddingError: the encoder failed or returned no embedding; names the text's id.

    Shapes: n texts -> [n, E] float32.
    """
    size = shard or encoder.chunk
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    starts = list(range(0, len(texts), size))
    # In length order the rate would fall all along and no estimate of the time left would hold.
    random.Random(0).shuffle(starts)
    result = torch.empty(0, 0)
    cut = reused = 0
    with progress.task(name, total=len(texts), unit="texts") as task:
        for done, start in enumerate(starts):
            rows = order[start : start + size]
            file = work / f"shard-{start:09d}-{start + len(rows):09d}.safetensors"
            kept = _read_shard(file, len(rows))
            vectors, shard_cut = kept or _encode_shard(encoder, [texts[row] for row in rows])
            width = result.shape[1] if done else None
            vectors = check_vectors(vectors, [ids[row] for row in rows], width)
            if kept is None:
                _write_shard(file, vectors, shard_cut)
            else:
                reused += len(rows)
            if not done:
                result = torch.empty(len(texts), vectors.shape[1])
            result[rows] = vectors
            cut += shard_cut
            task.advance(len(rows))
    return result, cut, reused


def _encode_shard(encoder: TextEncoder, texts: list[str]) -> tuple[Tensor, int]:
    before = encoder.truncated
    vectors = encoder.encode(texts)
    return vectors, encoder.truncated - before


def _write_shard(file: Path, vectors: Tensor, cut: int) -> None:
    with atomic_file(file) as path:
        write_tensors(path, {"embeddings": vectors}, {"truncated": str(cut)})


def _read_shard(file: Path, rows: int) -> tuple[Tensor, int] | None:
    """A finished shard, or None where there is none or it is damaged (it is made again)."""
    try:
        with safe_open(file, framework="pt") as handle:
            vectors: Tensor = handle.get_tensor("embeddings")
            cut = int(handle.metadata()["truncated"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return (vectors, cut) if len(vectors) == rows else None
