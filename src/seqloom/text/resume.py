"""Encoding many texts so that a killed run goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seqloom.core.files import atomic_file, sha256_text
from seqloom.core.progress import SILENT, Progress
from seqloom.text.encoders.base import TextEncoder, check_vectors

SHARD = 2048
"""Texts in one piece of finished work; a killed run loses at most so many."""


def content_hash(encoder: TextEncoder, texts: Sequence[str | None]) -> str:
    """SHA-256 of everything that decides the vectors: the encoder and the texts in their order."""
    identity = json.dumps(encoder.provenance(), sort_keys=True, ensure_ascii=False)
    return sha256_text(identity, *("\0" if text is None else text for text in texts))


def encode_all(
    encoder: TextEncoder,
    texts: Sequence[str],
    ids: Sequence[str],
    work: Path,
    *,
    name: str,
    shard: int = SHARD,
    progress: Progress = SILENT,
) -> tuple[Tensor, int, int]:
    """Vectors of all texts, the number of texts cut at the encoder's limit, and of texts reused.

    Finished shards lie in `work`, which must belong to these texts and this encoder alone (its name
    holds their content hash); the caller removes it when the result is safe.

    Raises:
        EmbeddingError: the encoder failed or returned no embedding; names the text's id.

    Shapes: n texts -> [n, E] float32.
    """
    parts: list[Tensor] = []
    cut = reused = 0
    width: int | None = None
    with progress.task(name, total=len(texts), unit="texts") as task:
        for start in range(0, len(texts), shard):
            rows = slice(start, min(start + shard, len(texts)))
            file = work / f"shard-{rows.start:09d}-{rows.stop:09d}.safetensors"
            kept = _read_shard(file, rows.stop - rows.start)
            if kept is not None:
                vectors, shard_cut = kept
                reused += len(vectors)
            else:
                before = encoder.truncated
                vectors = check_vectors(encoder.encode(texts[rows]), ids[rows], width)
                shard_cut = encoder.truncated - before
                with atomic_file(file) as path:
                    save_file({"embeddings": vectors}, path, {"truncated": str(shard_cut)})
            parts.append(vectors)
            width = vectors.shape[1]
            cut += shard_cut
            task.advance(len(vectors))
    return (torch.cat(parts) if parts else torch.empty(0, 0)), cut, reused


def _read_shard(file: Path, rows: int) -> tuple[Tensor, int] | None:
    """A finished shard, or None where there is none or it is damaged (it is made again)."""
    try:
        with safe_open(file, framework="pt") as handle:
            vectors: Tensor = handle.get_tensor("embeddings")
            cut = int(handle.metadata()["truncated"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return (vectors, cut) if len(vectors) == rows else None
