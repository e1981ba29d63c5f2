"""The files of embedding shards: which rows a shard encodes, its file, and merging all files.

DATASET/text/.<name>-<key>.shards/shard-<i>-of-<n>.safetensors   "items" and "users", the rows of one shard

The key is a hash of all that determines the texts and the encoder, so that shards of other options or
other data never mix.
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
    """Texts that the encoder truncated."""
    seconds: float = 0.0
    """Encoding time."""
    encoded: int = 0
    """Texts that were encoded, including those of earlier calls."""


class ShardManifest(Config):
    """The manifest of a shard, stored in the header of its file."""

    version: int = FORMAT_VERSION
    key: str
    """Hash of the data, the encoder and the templates."""
    shard: str
    """`i/n`."""
    parts: dict[str, ShardPart]
    """`items` and `users`; users are absent where they are not encoded."""


def job_key(dataset: Dataset, encoder: TextEncoder, choices: dict[str, Any]) -> str:
    """Computes the key of a job from data, encoder, and the `choices` that determine the texts."""
    identity = {"encoder": encoder.provenance(), "choices": choices, "version": FORMAT_VERSION}
    catalogue = sha256_file(dataset.path / "items.parquet")
    return sha256_text(dataset.fingerprint, catalogue, json.dumps(identity, sort_keys=True))[:16]


def shard_folder(dataset: Dataset, name: str, key: str) -> Path:
    """Returns the folder of a job's shards."""
    return dataset.path / "text" / f".{name}-{key}.shards"


def shard_file(folder: Path, shard: Shard) -> Path:
    """Returns the path of a shard's file."""
    return folder / f"shard-{shard.label}.safetensors"


def shard_rows(shard: Shard, items: int, users: int) -> dict[str, range]:
    """Returns the rows of `items` items and `users` users that a shard encodes: whole blocks, items first."""
    item_blocks = -(-items // BLOCK)
    blocks = shard.of(item_blocks + -(-users // BLOCK))

    def rows(first: int, last: int, total: int) -> range:
        return range(min(max(first, 0) * BLOCK, total), min(max(last, 0) * BLOCK, total))

    return {
        "items": rows(blocks.start, min(blocks.stop, item_blocks), items),
        "users": rows(blocks.start - item_blocks, blocks.stop - item_blocks, users),
    }


def write_shard(file: Path, manifest: ShardManifest, vectors: dict[str, Tensor]) -> None:
    """Writes a shard's file, complete or not at all."""
    with atomic_file(file) as work:
        write_tensors(
            work,
            vectors or {"empty": torch.zeros(0)},
            {"seqloom": manifest.model_dump_json()},
            sealed=True,
        )


def read_shard(file: Path, key: str) -> ShardManifest | None:
    """Reads the manifest of a finished shard; None if it is missing, damaged or of another job."""
    try:
        with safe_open(file, framework="pt") as handle:
            manifest = ShardManifest.model_validate_json(handle.metadata()["seqloom"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return manifest if (manifest.key, manifest.version) == (key, FORMAT_VERSION) else None


@dataclass(frozen=True)
class ShardSet:
    """All finished shards of a job."""

    folder: Path
    manifests: list[ShardManifest]

    @classmethod
    def open(cls, folder: Path, key: str, how: str) -> ShardSet:
        """Opens a complete set of shards; `how` is the command that makes a shard, for messages.

        Raises:
            ArtefactError: there are no shards, or some are missing; the message names them.
        """
        sets: dict[int, dict[int, ShardManifest]] = {}
        for file in sorted(folder.glob("shard-*.safetensors")):
            manifest = read_shard(file, key)
            if manifest is not None:
                shard = Shard.parse(manifest.shard)
                sets.setdefault(shard.count, {})[shard.index] = manifest
        for count, finished in sets.items():
            if len(finished) == count:
                return cls(folder, [finished[index] for index in range(count)])
        if not sets:
            raise ArtefactError(f"{folder} holds no shards of these options and this data; {how}")
        count, finished = max(sets.items(), key=lambda entry: len(entry[1]))
        missing = [f"{index}/{count}" for index in range(count) if index not in finished]
        raise ArtefactError(
            f"{len(missing)} of {count} shards are missing or damaged ({', '.join(missing[:8])}"
            f"{', ...' if len(missing) > 8 else ''}); {how}"
        )

    def part(self, part: str, provenance: dict[str, Any], texts: Sequence[str | None]) -> Encoded:
        """Reads the vectors of all rows; the result is that of `encode_timed` for `texts`.

        Raises:
            ArtefactError: a shard is damaged, or was made from other texts.
        """
        if not self.manifests:
            raise ArtefactError(f"{self.folder} holds no shards of these options; make them first")
        vectors = torch.zeros(0, 0)
        for manifest in self.manifests:
            share = manifest.parts[part]
            file = shard_file(self.folder, Shard.parse(manifest.shard))
            if share.content != content_hash_of(provenance, texts[share.start : share.stop]):
                raise ArtefactError(
                    f"{file} was made from other texts than those of the data set now; delete "
                    f"{self.folder} and make the shards again"
                )
            own = _vectors(file, part)
            if own is None:
                continue
            if not len(vectors):
                vectors = torch.zeros(len(texts), own.shape[1])
            if own.shape != (share.stop - share.start, vectors.shape[1]):
                raise ArtefactError(f"shards of {self.folder} differ in width; make them again")
            vectors[share.start : share.stop] = own
        shares = [manifest.parts[part] for manifest in self.manifests]
        return Encoded(
            vectors,
            truncated=sum(share.truncated for share in shares),
            seconds=sum(share.seconds for share in shares),
            texts=sum(text is not None for text in texts),
            encoded=sum(share.encoded for share in shares),
        )


def _vectors(file: Path, part: str) -> Tensor | None:
    """Reads the vectors of a part; None if no row of the shard has a text."""
    tensors, _ = read_tensors(file, "a shard of embeddings", "delete it and make it again")
    return tensors.get(part)
