from __future__ import annotations

from typing import Any

import pytest
import torch

from seqloom.inference.top_k import top_scores
from seqloom.nn.losses import chunk_rows


@pytest.mark.parametrize("columns", [100, 40_000, 65_536, 70_001])
@pytest.mark.parametrize("kind", ["normal", "ties", "masked"])
def test_the_highest_are_those_of_a_full_sort(columns: int, kind: str) -> None:
    scores = torch.randn(3, columns, generator=torch.Generator().manual_seed(columns))
    if kind == "ties":
        scores = scores.round()
    if kind == "masked":
        scores[:, 40:] = -torch.inf
    values, at = top_scores(scores, 100)
    assert torch.equal(values, scores.sort(dim=1, descending=True).values[:, :100])
    assert torch.equal(scores.gather(1, at), values)
    assert all(len(row.unique()) == 100 for row in at)


def test_a_score_that_is_not_a_number_is_not_hidden() -> None:
    scores = torch.zeros(1, 50_000)
    scores[0, 123] = torch.nan
    assert top_scores(scores, 3)[1][0, 0] == 123


@pytest.mark.parametrize("columns", [7, 100, 40_000])
def test_ties_go_to_the_lowest_key_in_any_columns(columns: int) -> None:
    draw = torch.Generator().manual_seed(columns)
    scores = torch.randint(0, 3, (4, columns), generator=draw).float()
    scores[1] = 1.0
    scores[2, 3:] = -torch.inf
    keys = torch.randperm(columns, generator=draw)
    values, at = top_scores(scores, 5, keys)
    slow = [
        sorted(range(columns), key=lambda c: (-row[c], int(keys[c])))[:5] for row in scores.tolist()
    ]
    assert torch.equal(values, scores.gather(1, torch.tensor(slow)))
    finite = values > -torch.inf
    assert torch.equal(at[finite], torch.tensor(slow)[finite])
    order = torch.randperm(columns, generator=draw)
    again = top_scores(scores[:, order], 5, keys[order])[1]
    assert torch.equal(order[again][finite], at[finite])


def test_most_columns_are_never_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    topk, widths = torch.Tensor.topk, []

    def watched(scores: Any, k: Any, dim: Any) -> tuple[torch.Tensor, torch.Tensor]:
        widths.append(scores.shape[1])
        return topk(scores, k, dim=dim)

    monkeypatch.setattr(torch.Tensor, "topk", watched)
    top_scores(torch.randn(1, 1_000_000), 100)
    assert max(widths) < 20_000


@pytest.mark.parametrize(
    ("items", "rows"), [(12_101, 259), (49_152, 64), (200_000, 64), (1_000_000, 33), (10**8, 16)]
)
def test_the_chunk_of_logits(items: int, rows: int) -> None:
    cpu = torch.device("cpu")
    assert chunk_rows(items, cpu) == rows
    if items <= 1_000_000:
        assert 4 * items * rows <= 128 << 20
