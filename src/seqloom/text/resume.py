"""Encodes many texts in chunks that are stored on disk, so that a killed run can be resumed."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqloom.core.errors import ArtefactError
from seqloom.core.files import atomic_file, sha256_text
from seqloom.core.progress import SILENT, Progress
from seqloom.core.tensors import read_tensors, write_tensors
from seqloom.text.encoders.base import TextEncoder, check_vectors

BLOCK = 2048
"""Texts are sorted by length within blocks of so many rows. The last bits of a vector depend on the texts
that are encoded together: a job in shards of whole blocks gives the same vectors as a job in one piece."""


@dataclass(frozen=True)
class Encoded:
    """The vectors of some texts, with counts and time."""

    vectors: Tensor
    """[rows, E], zero in rows without a text."""
    truncated: int
    """Texts that the encoder truncated."""
    seconds: float
    texts: int
    """Rows with a text."""
    encoded: int
    """Texts that were encoded; the vectors of the others were on disk."""


def content_hash(encoder: TextEncoder, texts: Sequence[str | None]) -> str:
    """Computes SHA-256 of all that determines the vectors: the encoder and the texts in order."""
    return content_hash_of(encoder.provenance(), texts)


def content_hash_of(provenance: dict[str, Any], texts: Sequence[str | None]) -> str:
    """Computes the same from the provenance of an encoder."""
    identity = json.dumps(provenance, sort_keys=True, ensure_ascii=False)
    return sha256_text(identity, *("\0" if text is None else text for text in texts))


def encode_all(
    encoder: TextEncoder,
    texts: Sequence[str | None],
    ids: Sequence[str],
    work: Path,
    *,
    name: str,
    shard: int | None = None,
    progress: Progress = SILENT,
) -> tuple[Tensor, int, int]:
    """Encodes all texts; returns the vectors, the number of truncated texts and of reused ones.

    A row without a text is a row of zeros. Finished shards are stored in `work`, which must belong only to
    these texts and this encoder (its name contains their content hash); the caller removes it when the
    result is stored. A shard holds texts of similar length from one block, so that little padding is
    computed; a killed run loses at most one shard.

    Raises:
        EmbeddingError: the encoder failed or returned no embedding; the message names the text's id.

    Shapes: n texts -> [n, E] float32; [0, 0] where no row has a text.
    """
    shards = _shards(texts, shard or encoder.chunk)
    result = torch.empty(0, 0)
    cut = reused = 0
    with progress.task(name, total=sum(map(len, shards)), unit="texts") as task:
        for done, rows in enumerate(shards):
            file = work / f"shard-{rows[0]:09d}-{len(rows):06d}.safetensors"
            kept = _read_shard(file, len(rows))
            vectors, shard_cut = kept or _encode_shard(encoder, [texts[row] or "" for row in rows])
            width = result.shape[1] if done else None
            vectors = check_vectors(vectors, [ids[row] for row in rows], width)
            if kept is None:
                _write_shard(file, vectors, shard_cut)
            else:
                reused += len(rows)
            if not done:
                result = torch.zeros(len(texts), vectors.shape[1])
            result[rows] = vectors
            cut += shard_cut
            task.advance(len(rows))
    return result, cut, reused


def encode_timed(
    encoder: TextEncoder,
    texts: Sequence[str | None],
    ids: Sequence[str],
    work: Path,
    *,
    name: str,
    progress: Progress = SILENT,
) -> Encoded:
    """Runs `encode_all` and adds the counts and the time for manifests."""
    started = time.perf_counter()
    vectors, cut, reused = encode_all(encoder, texts, ids, work, name=name, progress=progress)
    count = sum(text is not None for text in texts)
    return Encoded(vectors, cut, time.perf_counter() - started, count, count - reused)


def _shards(texts: Sequence[str | None], size: int) -> list[list[int]]:
    """Returns the rows that are encoded together, shuffled: in the order of length the rate would fall
    steadily, and estimates of the remaining time would be wrong."""
    shards = []
    for start in range(0, len(texts), BLOCK):
        block = range(start, min(start + BLOCK, len(texts)))
        rows = [row for row in block if texts[row] is not None]
        rows.sort(key=lambda row: len(texts[row] or ""))
        shards += [rows[at : at + size] for at in range(0, len(rows), size)]
    random.Random(0).shuffle(shards)
    return shards


def _encode_shard(encoder: TextEncoder, texts: list[str]) -> tuple[Tensor, int]:
    before = encoder.truncated
    vectors = encoder.encode(texts)
    return vectors, encoder.truncated - before


def _write_shard(file: Path, vectors: Tensor, cut: int) -> None:
    with atomic_file(file) as path:
        write_tensors(path, {"embeddings": vectors}, {"truncated": str(cut)}, sealed=True)


def _read_shard(file: Path, rows: int) -> tuple[Tensor, int] | None:
    """Reads a finished shard; returns None if it is missing or damaged, so that it is made again."""
    try:
        tensors, about = read_tensors(file, "a shard of embeddings", "it is made again")
        vectors, cut = tensors["embeddings"], int(about["truncated"])
    except (ArtefactError, KeyError, ValueError):
        return None
    return (vectors, cut) if len(vectors) == rows else None
