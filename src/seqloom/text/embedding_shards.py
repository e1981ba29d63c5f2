"""Embeddings made in shares: which rows a shard encodes, the file it leaves, and all files as one.

DATASET/text/.<name>-<key>.shards/shard-<i>-of-<n>.safetensors   "items" and "users", the rows of one shard

The key is a hash of everything that decides the texts and the encoder, so shards of other options,
or of other data, never mix.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.errors import ArtefactError
from seqloom.core.files import atomic_file, sha256_file, sha256_text
from seqloom.core.tensors import read_tensors, write_tensors
from seqloom.data.store import Dataset
from seqloom.jobs.shards import Shard
from seqloom.text.encoders import TextEncoder
from seqloom.text.resume import BLOCK, Encoded, content_hash_of

FORMAT_VERSION = 1


class ShardPart(Config):
    """The items, or the users, of one shard."""

    start: int
    """First row."""
    stop: int
    """Row after the last."""
    content: str
    """SHA-256 of the encoder and these rows' texts."""
    truncated: int = 0
    """Texts of which the encoder cut off the end."""
    seconds: float = 0.0
    """Time that encoding took."""
    encoded: int = 0
    """Texts that went through the encoder; a shard that was begun before has done some earlier."""


class ShardManifest(Config):
    """What a shard's file says of itself, in its header."""

    version: int = FORMAT_VERSION
    key: str
    """Hash of the data, the encoder and the templates."""
    shard: str
    """`i/n`."""
    parts: dict[str, ShardPart]
    """`items` and `users`; users are absent where they are not encoded."""


def job_key(dataset: Dataset, encoder: TextEncoder, choices: dict[str, Any]) -> str:
    """The key of a job: data, encoder, and the `choices` that decide the texts."""
    told = {"encoder": encoder.provenance(), "choices": choices, "version": FORMAT_VERSION}
    catalogue = sha256_file(dataset.path / "items.parquet")
    return sha256_text(dataset.fingerprint, catalogue, json.dumps(told, sort_keys=True))[:16]


def shard_folder(dataset: Dataset, name: str, key: str) -> Path:
    """Where the shards of a job lie."""
    return dataset.path / "text" / f".{name}-{key}.shards"


def shard_file(folder: Path, shard: Shard) -> Path:
    """The file of one shard."""
    return folder / f"shard-{shard.label}.safetensors"


def shard_rows(shard: Shard, items: int, users: int) -> dict[str, range]:
    """The rows of `items` items and `users` users that a shard encodes: whole blocks, items first."""
    item_blocks = -(-items // BLOCK)
    blocks = shard.of(item_blocks + -(-users // BLOCK))

    def rows(first: int, last: int, total: int) -> range:
        return range(min(max(first, 0) * BLOCK, total), min(max(last, 0) * BLOCK, total))

    return {
        "items": rows(blocks.start, min(blocks.stop, item_blocks), items),
        "users": rows(blocks.start - item_blocks, blocks.stop - item_blocks, users),
    }


def write_shard(file: Path, told: ShardManifest, vectors: dict[str, Tensor]) -> None:
    """Write a shard's file, whole or not at all."""
    with atomic_file(file) as work:
        write_tensors(
            work,
            vectors or {"empty": torch.zeros(0)},
            {"seqloom": told.model_dump_json()},
            sealed=True,
        )


def read_shard(file: Path, key: str) -> ShardManifest | None:
    """What a finished shard says of itself; None where it is missing, damaged or of another job."""
    try:
        with safe_open(file, framework="pt") as handle:
            told = ShardManifest.model_validate_json(handle.metadata()["seqloom"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return told if (told.key, told.version) == (key, FORMAT_VERSION) else None


@dataclass(frozen=True)
class ShardSet:
    """The finished shards of a job, complete."""

    folder: Path
    told: list[ShardManifest]

    @classmethod
    def open(cls, folder: Path, key: str, how: str) -> ShardSet:
        """All shards of one division; `how` is the command that makes one.

        Raises:
            ArtefactError: there are none, or some are missing; names them.
        """
        found = {file: read_shard(file, key) for file in sorted(folder.glob("shard-*.safetensors"))}
        sets: dict[int, dict[int, ShardManifest]] = {}
        for told in found.values():
            if told is not None:
                shard = Shard.parse(told.shard)
                sets.setdefault(shard.count, {})[shard.index] = told
        for count, there in sets.items():
            if len(there) == count:
                return cls(folder, [there[index] for index in range(count)])
        if not sets:
            raise ArtefactError(f"{folder} holds no shards of these options and this data; {how}")
        count, there = max(sets.items(), key=lambda entry: len(entry[1]))
        missing = [f"{index}/{count}" for index in range(count) if index not in there]
        raise ArtefactError(
            f"{len(missing)} of {count} shards are missing or damaged ({', '.join(missing[:8])}"
            f"{', ...' if len(missing) > 8 else ''}); {how}"
        )

    def part(self, part: str, provenance: dict[str, Any], texts: Sequence[str | None]) -> Encoded:
        """The vectors of all rows, as `encode_timed` would give them for `texts`.

        Raises:
            ArtefactError: a shard is damaged, or was made of other texts.
        """
        if not self.told:
            raise ArtefactError(f"{self.folder} holds no shards of these options; make them first")
        vectors = torch.zeros(0, 0)
        for told in self.told:
            share = told.parts[part]
            file = shard_file(self.folder, Shard.parse(told.shard))
            if share.content != content_hash_of(provenance, texts[share.start : share.stop]):
                raise ArtefactError(
                    f"{file} was made of other texts than the data set has now; delete {self.folder} "
                    f"and make the shards again"
                )
            found = _vectors(file, part)
            if found is None:
                continue
            if not len(vectors):
                vectors = torch.zeros(len(texts), found.shape[1])
            if found.shape != (share.stop - share.start, vectors.shape[1]):
                raise ArtefactError(f"shards of {self.folder} differ in width; make them again")
            vectors[share.start : share.stop] = found
        shares = [told.parts[part] for told in self.told]
        return Encoded(
            vectors,
            truncated=sum(share.truncated for share in shares),
            seconds=sum(share.seconds for share in shares),
            texts=sum(text is not None for text in texts),
            encoded=sum(share.encoded for share in shares),
        )


def _vectors(file: Path, part: str) -> Tensor | None:
    """The vectors of a part, or None where no row of the shard has a text."""
    tensors, _ = read_tensors(file, "a shard of embeddings", "delete it and make it again")
    return tensors.get(part)
