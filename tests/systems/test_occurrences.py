"""Where items occur, and who is head."""

from __future__ import annotations

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.data.sequences import Sequences
from seqloom.systems.occurrences import find_occurrences, head_from

TRAIN = Sequences.from_lists([[1, 2, 3], [2], [3, 1, 2, 2]])


def test_occurrences_after_another_item() -> None:
    actual = find_occurrences(TRAIN, 4, 0, after=1)
    assert actual.counts.tolist() == [1, 3, 1, 0]
    which, real = actual.draw(torch.tensor([2, 1, 4]), 5)
    assert real.sum(1).tolist() == [3, 1, 0]
    histories = actual.before(which[0][real[0]]).pad()
    rows = {
        tuple(row[:n].tolist()) for row, n in zip(histories.items, histories.lengths, strict=True)
    }
    assert rows == {(1,), (3, 1), (3, 1, 2)}


def test_items_around_an_occurrence() -> None:
    actual = find_occurrences(TRAIN, 4, 0, after=0)
    assert actual.counts.tolist() == [2, 3, 2, 0]
    which, _ = actual.draw(torch.tensor([3]), 2)
    around = {tuple(row) for row in actual.around(which[0], 2).tolist()}
    assert around == {(1, 2, 0, 0), (0, 0, 1, 2)}


def test_a_draw_takes_distinct_occurrences_from_any_start() -> None:
    actual = find_occurrences(TRAIN, 4, 0, after=0)
    for start in range(3):
        which, real = actual.draw(torch.tensor([2]), 2, torch.tensor([start]))
        assert real.all()
        assert len(set(which[0].tolist())) == 2


def test_equal_counts_have_no_head() -> None:
    assert head_from(torch.tensor([1, 1, 1, 1, 9]), "items") == 9
    with pytest.raises(ConfigError, match="all users have 3 training events"):
        head_from(torch.tensor([3, 3]), "users")
