from __future__ import annotations

import hashlib

import pytest
import torch

from seqloom.data.sequences import Sequences
from seqloom.data.store import training_hash

ROWS = [[3, 1], [], [2, 2, 5, 4, 1], [7], [], [6, 1, 2]]


@pytest.mark.parametrize("events", [1, 2, 3, 5, 100])
def test_blocks_are_all_rows_in_order(events: int) -> None:
    whole = Sequences.from_lists(ROWS)
    blocks = list(whole.blocks(events))
    assert torch.cat([block.lengths for block in blocks]).tolist() == [len(row) for row in ROWS]
    assert torch.cat([block.flat()[1] for block in blocks]).tolist() == [
        item for row in ROWS for item in row
    ]
    if events == 3:
        assert len(blocks) > 1
    assert len(list(Sequences.from_lists([]).blocks(events))) == 0
    assert sum(len(block) for block in Sequences.from_lists([[], []]).blocks(events)) == 2


def test_the_hash_of_the_training_part_is_that_of_its_arrays() -> None:
    """Runs keep it, so it may never change."""
    train = Sequences.from_lists(ROWS)
    digest = hashlib.sha256()
    for part in (train.lengths, train.flat()[1]):
        digest.update(f"{len(part)}\n".encode())
        digest.update(part.numpy().tobytes())
    assert training_hash([train]) == digest.hexdigest()
