"""The cases that papers leave open, as docs/concepts/evaluation.md defines them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.data.sequences import Sequences
from seqloom.data.store import HeldOut
from seqloom.evaluation.metrics import rank_metrics
from seqloom.evaluation.ranking import Ranks
from support.datasets import ranked, tiny_dataset


class SameForAll:
    """The same scores for every history."""

    def __init__(self, scores: list[float]) -> None:
        self.num_items = len(scores)
        self._scores = torch.tensor(scores)

    def score(self, items: Any, lengths: Any) -> torch.Tensor:
        return self._scores.repeat(len(items), 1)


def rank(scores: list[float], history: list[Any], target: int, **options: Any) -> Ranks:
    held_out = HeldOut(torch.tensor([0]), Sequences.from_lists([history]), torch.tensor([target]))
    return ranked(SameForAll(scores), held_out, **options)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([3.0, 2.0, 2.0, 2.0, 1.0], 4), ([1.0] * 5, 5), ([0.0, 9.0, 0.0, 0.0, 0.0], 1)],
)
def test_a_tie_counts_against_the_model_for_any_item_number(
    scores: list[float], expected: int
) -> None:
    assert int(rank(scores, [1], 2, mask_seen=False).ranks) == expected


def test_seen_items_that_tie_with_the_target_do_not_compete_when_masked() -> None:
    scores = [1.0] * 5
    assert int(rank(scores, [1, 3, 3], 2, mask_seen=True).ranks) == 3
    assert int(rank(scores, [1, 3, 3], 2, mask_seen=False).ranks) == 5


def test_a_target_in_the_history_is_a_miss_and_cannot_be_recommended_when_masked() -> None:
    scores = [5.0, 4.0, 3.0, 2.0]
    actual = rank(scores, [1, 2], 2, mask_seen=True, list_length=4)
    assert actual.lists.tolist() == [[3, 4, 0, 0]]
    # Not even a cut-off above the catalogue makes a hit of it.
    assert set(rank_metrics(actual.ranks, ["hr@10", "ndcg@10", "mrr"]).values()) == {0.0}
    assert int(rank(scores, [1, 2], 2, mask_seen=False).ranks) == 2


def test_a_cutoff_above_the_catalogue_counts_every_user() -> None:
    ranks = rank([4.0, 3.0, 2.0], [1], 3, mask_seen=False, list_length=10)
    assert ranks.lists.tolist() == [[1, 2, 3, 0, 0, 0, 0, 0, 0, 0]]
    assert rank_metrics(ranks.ranks, ["hr@10"])["hr@10"] == 1.0


def test_users_without_a_test_item_are_not_counted(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "data", [[1, 2, 3], [1, 2], [2], [3, 1, 2, 3]])
    held_out = dataset.held_out("test")
    assert held_out.users.tolist() == [0, 3]
    ranks = ranked(SameForAll([3.0, 2.0, 1.0]), held_out)
    assert len(ranks.ranks) == 2
    assert dataset.popularity.tolist() == [0, 3, 2, 1]


def test_nobody_with_a_test_item_is_an_error(tmp_path: Path) -> None:
    from seqloom.pipelines.evaluate.evaluate import evaluate
    from seqloom.pipelines.train.train import train

    dataset = tiny_dataset(tmp_path / "data", [[1, 2], [2, 1]])
    train(dataset, "popularity", out=tmp_path / "run", device="cpu")
    with pytest.raises(ConfigError, match="no test events"):
        evaluate(tmp_path / "run")
