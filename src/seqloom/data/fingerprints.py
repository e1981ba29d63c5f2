"""Fingerprints of a data set: hashes of ids, events and split, and of the training part.

Both are computed piece by piece, so that a data set in parts has the same fingerprints as one in a
single file.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from seqloom.data.events import Events
from seqloom.data.sequences import Sequences

Chunks = Callable[[str], Iterable[Tensor]]
"""Returns the pieces of an event array by its name, in order; may be called several times."""


def fingerprint(
    item_ids: Sequence[str], user_ids: Sequence[str], events: Events, num_cold: int = 0
) -> str:
    """Computes SHA-256 over ids, events, split and the number of cold items."""
    arrays = events.tensors()
    return fingerprint_of(
        item_ids, len(user_ids), [user_ids], list(arrays), lambda name: [arrays[name]], num_cold
    )


def fingerprint_of(
    item_ids: Sequence[str],
    num_users: int,
    user_ids: Iterable[Sequence[str]],
    names: Sequence[str],
    chunks: Chunks,
    num_cold: int = 0,
) -> str:
    """Computes the same from pieces: `user_ids` in the order of the users, arrays from `chunks`.

    `joined`, which only says more about the times, is no part of it.
    """
    digest = hashlib.sha256()
    for count, pieces in ((len(item_ids), [item_ids]), (num_users, user_ids)):
        digest.update(f"{count}\n".encode())
        for ids in pieces:
            for value in ids:
                data = value.encode("utf-8", "surrogatepass")
                digest.update(len(data).to_bytes(4, "little"))
                digest.update(data)
    for name in sorted(set(names) - {"joined"}):
        length = sum(len(chunk) for chunk in chunks(name))
        for number, chunk in enumerate(chunks(name)):
            if number == 0:
                digest.update(f"{name}:{chunk.dtype}:{length}\n".encode())
            digest.update(chunk.contiguous().numpy().data)
    if num_cold:
        digest.update(f"cold items:{num_cold}\n".encode())
    return digest.hexdigest()


def training_hash(train: Iterable[Sequences]) -> str:
    """Computes SHA-256 over the length of each row and all items; the rows may come in any pieces."""
    pieces = list(train)
    digest = hashlib.sha256(f"{sum(map(len, pieces))}\n".encode())
    for piece in pieces:
        digest.update(piece.lengths.contiguous().numpy().data)
    digest.update(f"{sum(int(piece.lengths.sum()) for piece in pieces)}\n".encode())
    for block in itertools.chain.from_iterable(piece.blocks() for piece in pieces):
        digest.update(block.flat()[1].contiguous().numpy().data)
    return digest.hexdigest()
