"""Whom and what an ensemble is fitted on, with seen items masked and kept."""

from __future__ import annotations

from pathlib import Path

import torch

from seqloom.systems.ensemble.candidates import fitting_users, gather_candidates
from seqloom.systems.score_sum import MemberScorer
from support.datasets import tiny_dataset

ROWS = [[1, 2, 3, 1, 4], [2, 3, 4, 5, 6], [5, 1, 2, 5, 3], [6, 1, 4, 2, 3]]
"""The validation targets of the first and the third are repeats."""


class Counting:
    """Scores item number j by j."""

    num_items = 6

    def score(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return torch.arange(6.0).repeat(len(items), 1)


def test_repeats_are_fitted_on_only_where_seen_items_are_kept(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", ROWS)
    masked, kept = (
        fitting_users(data.deciding(decision), masked=decision) for decision in (True, False)
    )
    assert sorted(masked.users.tolist()) == [1, 3]
    assert sorted(kept.users.tolist()) == [0, 1, 2, 3]


def test_seen_items_are_candidates_only_where_they_are_kept(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "data", ROWS)
    for masked in (True, False):
        held_out = fitting_users(data.deciding(masked), masked=masked)
        found = gather_candidates(
            [MemberScorer(Counting(), None, "logits")],
            held_out,
            data.tie_keys,
            best=6,
            others=0,
            max_len=None,
            seed=0,
            device=torch.device("cpu"),
            masked=masked,
        )
        by_length = torch.argsort(held_out.histories.lengths, stable=True)
        for row, user in enumerate(by_length.tolist()):
            history = set(held_out.histories.select(torch.tensor([user])).flat()[1].tolist())
            target = int(held_out.targets[user])
            real = found.log_count[row] > -torch.inf
            listed = {int(score) + 1 for score in found.scores[row, real, 0].tolist()}
            expected = set(range(1, 7)) - (history - {target} if masked else set())
            assert listed == expected
