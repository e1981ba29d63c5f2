"""The choice of ranking loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F

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


def test_popularity_offset_works_with_every_loss():
    hidden, weight = torch.tensor([[2.0], [1.0]]), torch.tensor([[0.5], [-1.0]])
    targets = torch.tensor([0, 1])  # of two items the other one is the negative
    offset = 0.3 * torch.tensor([10.0, 2.0]).log()
    logits = hidden @ weight.t() + offset - offset.mean()
    config = LossConfig(kind="bce", negatives=1, popularity_offset=0.3)
    loss = RankingLoss(config, torch.tensor([0, 9, 1]))(hidden, weight, targets)
    wrong = logits.gather(1, 1 - targets[:, None])[:, 0]
    right = logits.gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(loss, -(F.logsigmoid(right) + F.logsigmoid(-wrong)).mean())


def test_sampled_softmax_with_the_offset_estimates_the_softmax_with_it():
    draw = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(rows, 4, generator=draw) for rows in (6, 5))
    targets = torch.randint(5, (6,), generator=draw)
    popularity = torch.tensor([0, 9, 0, 3, 1, 30])
    settings = {"negatives": 20_000, "popularity_offset": 0.6}
    torch.manual_seed(1)
    sampled, exact = (
        RankingLoss(LossConfig(kind=kind, **settings), popularity)(hidden, weight, targets)
        for kind in ("sampled-softmax", "softmax")
    )
    torch.testing.assert_close(sampled, exact, rtol=0.02, atol=0)
