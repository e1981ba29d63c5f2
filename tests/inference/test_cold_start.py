"""Scores for users without a history."""

from __future__ import annotations

import torch

from seqloom.data.popularity_scores import popularity_scores
from seqloom.inference.cold_start import cold_start_scores

COUNTS = torch.tensor([3, 7, 0, 7, 1, 0])


def test_equal_counts_tie_and_others_do_not() -> None:
    scores = popularity_scores(COUNTS)
    assert scores[1] == scores[3] > scores[0] > scores[4] > scores[2] == scores[5]
    many = popularity_scores(torch.tensor([2**24, 2**24 + 1]))  # alike in single precision
    assert many[0] < many[1]


def test_items_added_after_training_have_no_events() -> None:
    assert torch.equal(cold_start_scores(COUNTS, 8)[:6], popularity_scores(COUNTS))
    assert cold_start_scores(COUNTS, 8)[6:].tolist() == [0, 0]
