from __future__ import annotations

import sys

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.inference.ann_index import ApproximateIndex


def clustered(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    """Rows around some centres, of different lengths, as item vectors are."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(max(1, rows // 60), width, generator=draw)
    chosen = centres[torch.randint(len(centres), (rows,), generator=draw)]
    return chosen + 0.4 * torch.randn(rows, width, generator=draw)


@pytest.fixture(scope="module")
def vectors() -> torch.Tensor:
    return clustered(6000, 16)


@pytest.fixture(scope="module")
def index(vectors: torch.Tensor) -> ApproximateIndex:
    made = ApproximateIndex(vectors, seed=1)
    made.tune(clustered(200, 16, seed=9) @ torch.eye(16), 10, 0.95)
    return made


@pytest.fixture(scope="module")
def queries(vectors: torch.Tensor) -> torch.Tensor:
    return vectors[::60] + 0.1


def test_recall_is_what_is_measured_against_all_products(
    vectors: torch.Tensor, index: ApproximateIndex, queries: torch.Tensor
) -> None:
    reported = index.tune(queries, 10, 0.9)
    assert (reported.k, reported.queries, reported.target) == (10, 50, 0.9)
    exact = (queries[1::2] @ vectors.t()).topk(10).indices.tolist()
    actual = index.best(queries[1::2], 10)[1].tolist()
    hits = sum(len(set(a) & set(b)) for a, b in zip(exact, actual, strict=True))
    assert reported.recall == pytest.approx(hits / 500)
    assert reported.recall >= 0.85
    assert reported.probes < reported.lists


def test_a_higher_target_looks_through_more(index: ApproximateIndex, queries: torch.Tensor) -> None:
    index.probes = 1
    low = index.tune(queries, 10, 0.1)
    high = index.tune(queries, 10, 1.0)
    assert (low.probes, high.probes > low.probes) == (8, True)
    assert high.recall >= low.recall


def test_scores_are_exact_and_descend(
    vectors: torch.Tensor, index: ApproximateIndex, queries: torch.Tensor
) -> None:
    scores, rows = index.best(queries, 7)
    expected = torch.einsum("bkd,bd->bk", vectors[rows], queries)
    assert torch.allclose(scores, expected, atol=1e-5)
    assert (scores.diff(dim=1) <= 0).all()
    assert all(len(set(line)) == 7 for line in rows.tolist())


def test_rows_left_out_are_never_found_and_do_not_shorten_the_list(
    index: ApproximateIndex, queries: torch.Tensor
) -> None:
    best = index.exact(queries, 300)[1]
    pads = torch.full((len(queries), 5), -1)
    scores, rows = index.best(queries, 10, torch.cat([best, pads], 1))
    assert torch.isfinite(scores).all()
    assert not (rows[:, :, None] == best[:, None]).any()


def test_where_the_lists_hold_too_few_all_rows_are_scored(
    vectors: torch.Tensor, index: ApproximateIndex, queries: torch.Tensor
) -> None:
    """All that a search can meet is left out, so that only the exact search has an answer."""
    probes, index.probes = index.probes, 1
    met = index._candidates(queries[:1], 1000)
    scores, rows = index.best(queries[:1], 10, met)
    left = queries[:1] @ vectors.t()
    left[0, met[met >= 0]] = -torch.inf
    assert torch.equal(rows, left.topk(10).indices)
    assert torch.isfinite(scores).all()
    index.probes = probes


def test_more_than_there_are(queries: torch.Tensor) -> None:
    scores, rows = ApproximateIndex(torch.eye(16)[:3]).best(queries, 5, torch.zeros(100, 1).long())
    assert (rows[:, 2:] == -1).all()
    assert (scores[:, 2:] == -torch.inf).all()
    assert not (rows == 0).any()


def test_the_same_seed_gives_the_same_lists(
    vectors: torch.Tensor, index: ApproximateIndex, queries: torch.Tensor
) -> None:
    again = ApproximateIndex(vectors, seed=1)
    again.tune(queries, 10, 0.9)
    index.tune(queries, 10, 0.9)
    assert torch.equal(again.best(queries, 10)[1], index.best(queries, 10)[1])


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (40, 3), (700, 5)])
def test_small_and_odd_sizes(rows: int, width: int) -> None:
    vectors = clustered(rows, width)
    index = ApproximateIndex(vectors)
    reported = index.tune(vectors[: max(2, rows)].repeat(2, 1), 3, 1.0)
    assert reported.recall > 0.95


def test_without_faiss_the_message_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"pip install 'seqloom\[ann\]'"):
        ApproximateIndex(torch.eye(4))
