"""Encoding many texts so that a killed run goes on where it stopped."""

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
"""Rows among which texts are sorted by length. Which texts an encoder reads together decides the last
bits of their vectors: a job in shards of whole blocks gives the very vectors of a job in one piece."""


@dataclass(frozen=True)
class Encoded:
    """The vectors of some texts, and what it took."""

    vectors: Tensor
    """[rows, E], zero in rows without a text."""
    truncated: int
    """Texts of which the encoder cut off the end."""
    seconds: float
    texts: int
    """Rows with a text."""
    encoded: int
    """Those of them that went through the encoder; the others were found finished."""


def content_hash(encoder: TextEncoder, texts: Sequence[str | None]) -> str:
    """SHA-256 of everything that decides the vectors: the encoder and the texts in their order."""
    return content_hash_of(encoder.provenance(), texts)


def content_hash_of(provenance: dict[str, Any], texts: Sequence[str | None]) -> str:
    """The same, of an encoder that is known by its provenance alone."""
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
    """Vectors of all texts, the number of texts cut at the encoder's limit, and of texts reused.

    A row without a text is a row of zeros. Finished shards lie in `work`, which must belong to these
    texts and this encoder alone (its name holds their content hash); the caller removes it when the
    result is safe. A shard holds texts of similar length out of one block, so that little padding is
    computed; a killed run loses at most one.

    Raises:
        EmbeddingError: the encoder failed or returned no embedding; names the text's id.

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
    """`encode_all`, with what is kept of it in manifests."""
    started = time.perf_counter()
    vectors, cut, reused = encode_all(encoder, texts, ids, work, name=name, progress=progress)
    there = sum(text is not None for text in texts)
    return Encoded(vectors, cut, time.perf_counter() - started, there, there - reused)


def _shards(texts: Sequence[str | None], size: int) -> list[list[int]]:
    """The rows that are encoded together. Shuffled: in the order of length the rate would fall all
    along, and no estimate of the time left would hold."""
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
    """A finished shard, or None where there is none or it is damaged (it is made again)."""
    try:
        tensors, about = read_tensors(file, "a shard of embeddings", "it is made again")
        vectors, cut = tensors["embeddings"], int(about["truncated"])
    except (ArtefactError, KeyError, ValueError):
        return None
    return (vectors, cut) if len(vectors) == rows else None
