import pytest
import torch

from seqloom.nn.losses import chunk_rows
from seqloom.nn.top import top_scores


@pytest.mark.parametrize("columns", [100, 40_000, 65_536, 70_001])
@pytest.mark.parametrize("kind", ["normal", "ties", "masked"])
def test_the_highest_are_those_of_a_full_sort(columns, kind):
    scores = torch.randn(3, columns, generator=torch.Generator().manual_seed(columns))
    if kind == "ties":
        scores = scores.round()
    if kind == "masked":
        scores[:, 40:] = -torch.inf
    values, at = top_scores(scores, 100)
    assert torch.equal(values, scores.sort(dim=1, descending=True).values[:, :100])
    assert torch.equal(scores.gather(1, at), values)
    assert all(len(row.unique()) == 100 for row in at)


def test_a_score_that_is_not_a_number_is_not_hidden():
    scores = torch.zeros(1, 50_000)
    scores[0, 123] = torch.nan
    assert top_scores(scores, 3)[1][0, 0] == 123


def test_most_columns_are_never_sorted(monkeypatch):
    topk, widths = torch.Tensor.topk, []

    def watched(scores, k, dim):
        widths.append(scores.shape[1])
        return topk(scores, k, dim=dim)

    monkeypatch.setattr(torch.Tensor, "topk", watched)
    top_scores(torch.randn(1, 1_000_000), 100)
    assert max(widths) < 20_000


@pytest.mark.parametrize(
    ("items", "rows"), [(12_101, 259), (49_152, 64), (200_000, 64), (1_000_000, 33), (10**8, 16)]
)
def test_the_chunk_of_logits(items, rows):
    cpu = torch.device("cpu")
    assert chunk_rows(items, cpu) == rows
    if items <= 1_000_000:
        assert 4 * items * rows <= 128 << 20
