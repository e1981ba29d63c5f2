"""Batches of rows of unequal length."""

from __future__ import annotations

import pytest
import torch

from seqloom.core.batching import padded_batches, split_padded


def test_batches_hold_rows_of_similar_length_the_longest_first() -> None:
    assert padded_batches([1, 5, 1, 7, 5], rows=2, cells=100) == [[3, 1], [4, 0], [2]]


def test_a_batch_is_sized_by_what_it_is_padded_to() -> None:
    lengths = [10] * 790 + [256]
    batches = padded_batches(lengths, rows=10_000, cells=8192)
    assert batches[0] == [790, *range(31)]
    assert [len(batch) * max(lengths[row] for row in batch) for batch in batches] == [8192, 7590]


def test_a_row_longer_than_a_batch_is_one_of_its_own() -> None:
    assert padded_batches([3, 9, 0], rows=5, cells=4) == [[1], [0], [2]]
    assert padded_batches([], rows=5, cells=4) == []


@pytest.mark.parametrize("seed", range(20))
def test_every_row_is_in_one_batch_and_none_is_too_large(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    lengths = (torch.rand(200, generator=draw) ** 8 * 1000).long().tolist()
    rows, cells = int(torch.randint(1, 50, (), generator=draw)), 1 + 500 * seed
    batches = padded_batches(lengths, rows=rows, cells=cells)
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    for batch in batches:
        assert len(batch) <= rows
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= cells


def test_a_batch_is_split_where_its_longest_row_makes_it_too_large() -> None:
    rows, lengths = torch.tensor([4, 0, 2, 1]), torch.tensor([1, 6, 2, 99, 3])
    assert [part.tolist() for part in split_padded(rows, lengths, 24)] == [[4, 0, 2, 1]]
    assert [part.tolist() for part in split_padded(rows, lengths, 12)] == [[4, 0], [2, 1]]
    assert [part.tolist() for part in split_padded(rows, lengths, 3)] == [[4], [0], [2], [1]]
    assert split_padded(rows[:0], lengths, 3) == ()
