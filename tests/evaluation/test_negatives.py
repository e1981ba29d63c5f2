"""Sampled negatives: never interacted with, distinct, fixed, uniform, and all of them where few."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seqloom.core.errors import ConfigError, DataError
from seqloom.data.store import Dataset
from seqloom.evaluation import negatives as module
from seqloom.evaluation.negatives import count_users_with_fewer, sample_negatives
from support.datasets import tiny_dataset


def interacted(dataset: Dataset, user: int) -> set[int]:
    start, end = dataset.events.offsets[user : user + 2].tolist()
    return set(dataset.events.items[start:end].tolist())


def test_negatives_are_distinct_and_in_no_part(dataset: Dataset) -> None:
    users = dataset.held_out("test").users
    drawn = sample_negatives(dataset, users, 20, seed=3)
    assert drawn.shape == (len(users), 20)
    assert count_users_with_fewer(drawn) == 0
    for user, row in zip(users.tolist(), drawn.tolist(), strict=True):
        assert len(set(row)) == 20
        assert 1 <= min(row) <= max(row) <= dataset.num_items
        assert not set(row) & interacted(dataset, user)


def test_a_user_with_few_other_items_gets_all_of_them(dataset: Dataset) -> None:
    users = torch.tensor([0, 9])
    drawn = sample_negatives(dataset, users, 100, seed=3)
    assert count_users_with_fewer(drawn) == 2
    for user, row in zip(users.tolist(), drawn.tolist(), strict=True):
        free = sorted(set(range(1, dataset.num_items + 1)) - interacted(dataset, user))
        assert row == free + [0] * (100 - len(free))


def test_a_user_who_has_everything_gets_nothing(tmp_path: Path) -> None:
    everything = tiny_dataset(tmp_path / "data", [[1, 2, 3, 2, 1]])
    assert sample_negatives(everything, torch.tensor([0]), 2).tolist() == [[0, 0]]


def test_a_draw_depends_only_on_seed_and_user(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = torch.arange(dataset.num_users)
    drawn = sample_negatives(dataset, users, 10, seed=5)
    order = torch.randperm(len(users), generator=torch.Generator().manual_seed(0))
    assert torch.equal(sample_negatives(dataset, users[order], 10, seed=5), drawn[order])
    assert torch.equal(sample_negatives(dataset, users[7:8], 10, seed=5), drawn[7:8])
    assert not torch.equal(sample_negatives(dataset, users, 10, seed=6), drawn)
    monkeypatch.setattr(module, "_ROWS", 7)
    assert torch.equal(sample_negatives(dataset, users, 10, seed=5), drawn)


def test_every_free_item_is_equally_likely(dataset: Dataset) -> None:
    user, draws = torch.tensor([9]), 3000
    times = np.zeros(dataset.num_items + 1)
    for seed in range(draws):
        times[sample_negatives(dataset, user, 5, seed=seed)[0].numpy()] += 1
    free = sorted(set(range(1, dataset.num_items + 1)) - interacted(dataset, 9))
    share = 5 / len(free)
    error = 5 * np.sqrt(draws * share * (1 - share))
    assert np.abs(times[free] - draws * share).max() < error
    assert times.sum() == times[free].sum()


def test_bad_options_are_refused(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        sample_negatives(dataset, torch.tensor([0]), 0)
    with pytest.raises(DataError, match="user numbers"):
        sample_negatives(dataset, torch.tensor([60]))
    assert sample_negatives(dataset, torch.tensor([], dtype=torch.int64)).shape == (0, 100)
