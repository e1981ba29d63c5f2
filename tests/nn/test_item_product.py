"""Products of queries and item vectors in which equal vectors tie exactly."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from seqloom.nn import item_product
from seqloom.nn.item_product import ItemProduct, equal_rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_finds_the_rows_that_equal_an_earlier_one(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_product, "_BLOCK", 4)
    matrix = torch.randn(11, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    matrix[[4, 9, 10]] = matrix[2].clone()
    matrix[7] = 0.0
    matrix[8] = -0.0
    rows, first = equal_rows(matrix)
    assert rows.tolist() == [4, 8, 9, 10]
    assert first.tolist() == [2, 7, 2, 2]


def test_sums_that_collide_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.zeros(2, dtype=torch.int64))
    rows, first = equal_rows(torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]))
    assert rows.tolist() == [2]
    assert first.tolist() == [0]


def test_a_matrix_without_rows_or_repeats_has_none() -> None:
    for matrix in (torch.zeros(0, 3), torch.eye(3)):
        assert not any(len(part) for part in equal_rows(matrix))


def test_rows_that_differ_in_one_column_are_not_equal() -> None:
    matrix = torch.ones(40, 40) + torch.eye(40)
    matrix[30] = matrix[20].clone()
    rows, first = equal_rows(matrix)
    assert (rows.tolist(), first.tolist()) == ([30], [20])


def test_vectors_without_columns_score_alike() -> None:
    assert ItemProduct(torch.zeros(4, 0))(torch.zeros(2, 0)).tolist() == [[0.0] * 4] * 2


def test_it_is_the_product_and_equal_vectors_tie() -> None:
    draw = torch.Generator().manual_seed(0)
    vectors, queries = torch.randn(9, 4, generator=draw), torch.randn(5, 4, generator=draw)
    vectors[6] = vectors[1]
    product = ItemProduct(vectors)
    torch.testing.assert_close(product(queries), queries @ vectors.T)
    vectors[6] += 1e-6  # as rounding may differ by the place of an item
    scores = product(queries)
    assert torch.equal(scores[:, 6], scores[:, 1])


TIES = """
import torch
from seqloom.nn.item_product import ItemProduct

vectors = torch.randn(9, 384).repeat(20, 1)
scores = ItemProduct(vectors)(torch.randn(60, 384)).reshape(60, 20, 9)
assert (scores == scores[:, :1]).all()
"""


def test_equal_vectors_tie_with_the_kernels_of_other_processors() -> None:
    """Those for AVX2 sum in another order at the edge of a block."""
    environment = {**os.environ, "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TIES],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
