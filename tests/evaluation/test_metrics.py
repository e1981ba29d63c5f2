"""Metrics against slow loops written from the equations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.core.errors import ConfigError, DataError
from seqloom.evaluation.metrics import (
    list_metrics,
    metric_label,
    parse_metric,
    per_user,
    popularity_percentile,
    rank_metrics,
)


def dcg(relevance: list[int]) -> float:
    return sum(rel / math.log2(place + 1) for place, rel in enumerate(relevance, start=1))


def slow(name: str, rank: int) -> float:
    if name == "mrr":
        return 1 / rank
    kind, k = name.split("@")
    relevance = [1 if place == rank else 0 for place in range(1, int(k) + 1)]
    return float(sum(relevance)) if kind == "hr" else dcg(relevance) / dcg([1])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_rank_metrics_equal_the_definitions(ranks: list[int]) -> None:
    metrics = rank_metrics(torch.tensor(ranks))
    for name, value in metrics.items():
        expected = sum(slow(name, rank) for rank in ranks) / len(ranks)
        assert value == pytest.approx(expected, abs=1e-12), name


def test_metrics_by_hand() -> None:
    ranks = torch.tensor([1, 3, 10, 11])
    assert rank_metrics(ranks, ["hr@10"])["hr@10"] == 0.75
    expected = (1 + 0.5 + 1 / math.log2(11)) / 4
    assert rank_metrics(ranks, ["ndcg@10"])["ndcg@10"] == pytest.approx(expected)
    assert per_user("mrr", ranks).dtype == torch.float64


@pytest.mark.parametrize("name", ["hr", "hr@0", "ndcg@-1", "map@10", "HR@10", "mrr@10", ""])
def test_unknown_metric_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown"):
        parse_metric(name)


def test_bad_ranks_are_refused() -> None:
    with pytest.raises(DataError, match="ranks start at 1"):
        rank_metrics(torch.tensor([0, 1]))
    with pytest.raises(DataError, match="no user"):
        rank_metrics(torch.tensor([], dtype=torch.int64))


def test_labels() -> None:
    assert (metric_label("ndcg@10"), metric_label("mrr")) == ("NDCG@10", "MRR")


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_list_metrics_equal_the_definitions(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 9), min_size=6, max_size=12))
    lists = data.draw(
        st.lists(st.permutations(range(1, 7)).map(lambda p: p[:4]), min_size=1, max_size=8)
    )
    cut = data.draw(st.integers(1, 4))  # the last user's list is short
    full = [*lists[:-1], lists[-1][:cut] + [0] * (4 - cut)]
    n = len(counts)
    metrics = list_metrics(torch.tensor(full), torch.tensor([0, *counts]), [2, 4])
    for k in (2, 4):
        shown = [item for row in full for item in row[:k] if item]
        share = [(counts[i - 1] + 1) / (sum(counts) + n) for i in shown]
        percentile = [
            100
            * sum(1.0 if c < counts[i - 1] else 0.5 if c == counts[i - 1] else 0 for c in counts)
            / n
            for i in shown
        ]
        mean = len(shown)
        assert metrics[f"coverage@{k}"] == pytest.approx(len(set(shown)) / n)
        assert metrics[f"popularity@{k}"] == pytest.approx(sum(counts[i - 1] for i in shown) / mean)
        assert metrics[f"popularity_percentile@{k}"] == pytest.approx(sum(percentile) / mean)
        assert metrics[f"novelty@{k}"] == pytest.approx(sum(-math.log2(p) for p in share) / mean)


def test_percentile_of_the_whole_catalogue_is_fifty_on_average() -> None:
    counts = torch.tensor([0, 5, 5, 0, 1, 9, 9, 9])
    assert float(popularity_percentile(counts)[1:].mean()) == pytest.approx(50.0)


def test_lists_that_cannot_be_measured_are_refused() -> None:
    popularity = torch.tensor([0, 1, 1])
    with pytest.raises(DataError, match="shape"):
        list_metrics(torch.ones(2, 3, dtype=torch.int64), popularity, [5])
    with pytest.raises(DataError, match=r"outside 0\.\.2"):
        list_metrics(torch.full((2, 5), 3), popularity, [5])
    with pytest.raises(DataError, match="no list contains"):
        list_metrics(torch.zeros(2, 5, dtype=torch.int64), popularity, [5])
