"""The choice of ranking loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from seqloom.core.errors import ConfigError
from seqloom.systems.ranking_loss import LossConfig, RankingLoss


def test_popularity_offset_is_added_in_training():
    draw = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(rows, 4, generator=draw) for rows in (6, 5))
    targets = torch.randint(5, (6,), generator=draw)
    popularity = torch.tensor([0, 9, 0, 3, 1, 30])  # entry 0 is padding
    loss = RankingLoss(LossConfig(popularity_offset=0.3), popularity)(hidden, weight, targets)
    shifted = hidden @ weight.t() + 0.3 * (popularity[1:] + 1.0).log()
    torch.testing.assert_close(loss, F.cross_entropy(shifted, targets))
    plain = RankingLoss(LossConfig(), popularity)(hidden, weight, targets)
    torch.testing.assert_close(plain, F.cross_entropy(hidden @ weight.t(), targets))


def test_popularity_offset_needs_the_softmax():
    with pytest.raises(ConfigError, match=r"loss\.kind=softmax"):
        LossConfig.build({"kind": "bce", "popularity_offset": 0.3})
