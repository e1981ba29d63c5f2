"""The weights of two scores of which the text's may be the only one."""

from __future__ import annotations

import torch

from seqloom.systems.tail_blend import SCORE_BLENDS
from seqloom.systems.view_phase import TEXT_ALONE, score_weights


def test_a_blend_weighs_the_text_beside_the_other_score() -> None:
    for blend in (*SCORE_BLENDS, TEXT_ALONE / 2):
        weights = score_weights(torch.tensor(blend))
        assert weights.tolist() == [1.0, torch.tensor(blend).item()]


def test_the_text_alone_keeps_its_scale_and_leaves_the_other_score_out() -> None:
    for blend in (TEXT_ALONE, 2 * TEXT_ALONE):
        assert score_weights(torch.tensor(blend)).tolist() == [0.0, 1.0]
