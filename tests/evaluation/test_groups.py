"""Groups never part equal counts; an empty group has no metrics."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.core.errors import DataError
from seqloom.data.store import Dataset
from seqloom.evaluation.groups import (
    GroupThresholds,
    bin_metrics,
    default_thresholds,
    equal_bins,
    group_members,
    group_metrics,
    head_threshold,
)
from seqloom.evaluation.metrics import rank_metrics

COUNTS = st.lists(st.integers(0, 12), min_size=1, max_size=60)


@settings(deadline=None)
@given(COUNTS)
def test_threshold_gives_the_share_closest_to_a_fifth(counts: list[int]) -> None:
    threshold = head_threshold(torch.tensor(counts))
    if len(set(counts)) == 1:
        assert threshold == counts[0] + 1
        return
    share = {
        t: sum(c >= t for c in counts) / len(counts) for t in sorted(set(counts)) if t > min(counts)
    }
    best = min(abs(value - 0.2) for value in share.values())
    assert threshold == max(t for t, value in share.items() if abs(value - 0.2) <= best + 1e-12)


def test_equally_close_shares_take_the_higher_threshold() -> None:
    counts = [2] + [1] * 2 + [0] * 7  # shares of 0.1 and 0.3: 0.3 - 0.2 is below 0.1 in floats
    assert head_threshold(torch.tensor(counts)) == 2


def test_threshold_by_hand() -> None:
    assert head_threshold(torch.arange(1, 11)) == 9  # 9 and 10: exactly a fifth
    assert head_threshold(torch.tensor([1, 1, 1, 2, 2, 2])) == 2
    with pytest.raises(DataError, match="no counts"):
        head_threshold(torch.tensor([], dtype=torch.int64))


def test_default_thresholds_count_the_training_part_only(dataset: Dataset) -> None:
    counts = torch.zeros(dataset.num_items + 1, dtype=torch.int64)
    for u in range(dataset.num_users):
        start, end = int(dataset.events.offsets[u]), int(dataset.events.train_end[u])
        for item in dataset.events.items[start:end].tolist():
            counts[item] += 1
    lengths = dataset.events.train_end - dataset.events.offsets[:-1]
    assert default_thresholds(dataset) == GroupThresholds(
        item=head_threshold(counts[1:]), user=head_threshold(lengths)
    )


def test_below_the_threshold_is_tail() -> None:
    members = group_members(
        torch.tensor([3, 4, 5]), torch.tensor([9, 8, 9]), GroupThresholds(item=4, user=9)
    )
    assert {name: mask.tolist() for name, mask in members.items()} == {
        "tail_item": [True, False, False],
        "head_item": [False, True, True],
        "tail_user": [False, True, False],
        "head_user": [True, False, True],
    }


def test_group_metrics_and_a_group_without_users() -> None:
    ranks = torch.tensor([1, 20, 3])
    members = {"some": torch.tensor([True, False, True]), "none": torch.zeros(3, dtype=torch.bool)}
    metrics = group_metrics(ranks, members)
    assert metrics["some"] == {"users": 2, "metrics": rank_metrics(torch.tensor([1, 3]))}
    assert metrics["none"] == {"users": 0, "metrics": None}


@settings(deadline=None)
@given(COUNTS, st.integers(1, 6))
def test_bins_cover_every_user_and_keep_ties_together(values: list[int], count: int) -> None:
    tensor = torch.tensor(values)
    bins = equal_bins(tensor, count)
    assert len(bins) == min(count, len(set(values)))
    assert torch.stack([b.mask for b in bins]).sum(0).tolist() == [1] * len(values)
    for b in bins:
        inside = tensor[b.mask]
        assert (int(inside.min()), int(inside.max())) == (b.low, b.high)
    assert all(a.high < b.low for a, b in itertools.pairwise(bins))


def test_bins_are_equal_where_there_are_no_ties() -> None:
    assert [int(b.mask.sum()) for b in equal_bins(torch.arange(50).flip(0))] == [10] * 5
    assert equal_bins(torch.tensor([], dtype=torch.int64)) == []


def test_bin_metrics() -> None:
    bins = bin_metrics(torch.tensor([1, 2, 3, 4]), torch.tensor([5, 1, 5, 1]), count=2)
    assert [(b["low"], b["high"], b["users"]) for b in bins] == [(1, 1, 2), (5, 5, 2)]
    assert bins[0]["metrics"] == rank_metrics(torch.tensor([2, 4]))
