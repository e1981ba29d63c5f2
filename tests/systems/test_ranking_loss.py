"""The choice of ranking loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from seqloom.core.errors import ConfigError
from seqloom.data.store import Dataset
from seqloom.nn import losses
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.base_config import LossConfig
from seqloom.systems.llmesr.system import LLMESR
from seqloom.systems.ranking_loss import RankingLoss, outside
from seqloom.systems.sasrec import SASRec
from seqloom.text.store import load_embeddings
from support.datasets import SMALL, tiny_dataset


def test_popularity_offset_is_added_in_training() -> None:
    draw = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(rows, 4, generator=draw) for rows in (6, 5))
    targets = torch.randint(5, (6,), generator=draw)
    popularity = torch.tensor([0, 9, 0, 3, 1, 30])  # entry 0 is padding
    loss = RankingLoss(LossConfig(popularity_offset=0.3), popularity)(hidden, weight, targets)
    shifted = hidden @ weight.t() + 0.3 * (popularity[1:] + 1.0).log()
    torch.testing.assert_close(loss, F.cross_entropy(shifted, targets))
    plain = RankingLoss(LossConfig(), popularity)(hidden, weight, targets)
    torch.testing.assert_close(plain, F.cross_entropy(hidden @ weight.t(), targets))


def test_popularity_offset_works_with_every_loss() -> None:
    hidden, weight = torch.tensor([[2.0], [1.0]]), torch.tensor([[0.5], [-1.0]])
    targets = torch.tensor([0, 1])  # of two items the other one is the negative
    offset = 0.3 * torch.tensor([10.0, 2.0]).log()
    logits = hidden @ weight.t() + offset - offset.mean()
    config = LossConfig(kind="bce", negatives=1, popularity_offset=0.3)
    loss = RankingLoss(config, torch.tensor([0, 9, 1]))(hidden, weight, targets)
    wrong = logits.gather(1, 1 - targets[:, None])[:, 0]
    right = logits.gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(loss, -(F.logsigmoid(right) + F.logsigmoid(-wrong)).mean())


def test_sampled_softmax_with_the_offset_estimates_the_softmax_with_it() -> None:
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


def test_every_unseen_item_is_drawn_by_as_many_numbers() -> None:
    seen = torch.tensor([[0, 1, 5, 7], [6, 8, 8, 8], [0, 1, 2, 3]])  # 8 items, then 8 for no more
    for row, gone in enumerate(({0, 1, 5, 7}, {6}, {0, 1, 2, 3})):
        unseen = [item for item in range(8) if item not in gone]
        numbers = torch.arange(3 * len(unseen)).expand(3, -1)
        assert outside(seen, numbers, 8)[row].tolist() == 3 * unseen


@pytest.mark.parametrize("kind", ["bce", "gbce"])
def test_negatives_are_no_items_of_the_users_training_part(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    histories = [[3, 1, 2], [1, 2, 3, 4, 5, 9, 9], [6, 7, 6, 8, 1, 2], [2, 9, 1, 4, 4]]
    data = TrainingData(tiny_dataset(tmp_path / "data", histories))
    drawn = []

    def record(hidden: Any, weight: Any, targets: Any, negatives: Any, **_options: Any) -> Any:
        drawn.append((targets, negatives))
        return hidden.sum()

    monkeypatch.setattr(losses, "binary_loss", record)
    for allowed in (False, True):
        settings = {"kind": kind, "negatives": 200, "seen_negatives": allowed}
        config = SASRec.config_class.build({**SMALL, "loss": settings})
        system = SASRec(config, Sizes(num_items=data.dataset.num_items))
        system.initialise(data)
        phase: Any = system.phases(data)[0]
        batch: Any = phase.steps(0)[0]
        drawn.clear()
        phase.loss(batch)
        ((targets, negatives),) = drawn
        owner = phase.rows.users[batch.rows][batch.places // batch.targets.shape[1]]
        for target, user, row in zip(targets.tolist(), owner.tolist(), negatives, strict=True):
            own = {item - 1 for item in histories[user][:-2]}
            possible = set(range(9)) - ({target} if allowed else own)
            assert set(row.tolist()) == possible


def test_a_user_with_every_item_leaves_no_negative(tmp_path: Path) -> None:
    data = TrainingData(tiny_dataset(tmp_path / "data", [[1, 2, 3, 3, 1], [1, 2, 1]]))
    config = SASRec.config_class.build({**SMALL, "loss": {"kind": "bce"}})
    system = SASRec(config, Sizes(num_items=3))
    with pytest.raises(ConfigError, match=r"all 3 items.*loss.seen_negatives=true"):
        system.phases(data)


def test_output_dropout_is_the_ranking_losss_alone(dataset: Dataset) -> None:
    def loss(system_class: Any, rate: float) -> dict[Any, Any]:
        encoder = {**SMALL["encoder"], "dropout": 0.0, "output_dropout": rate}
        config = system_class.config_class.build(
            {**SMALL, "encoder": encoder, "distillation": {"alpha": 0.1}}
        )
        text_size = load_embeddings(dataset).width
        torch.manual_seed(0)
        system = system_class(config, Sizes(num_items=dataset.num_items, text_size=text_size))
        system.initialise(TrainingData(dataset))
        (phase,) = (p for p in system.phases(TrainingData(dataset)) if p.name == "train")
        batch = phase.steps(0)[0]
        system.train()
        torch.manual_seed(1)
        return {name: part.value for name, part in phase.loss(batch).items()}

    quiet, noisy = loss(LLMESR, 0.0), loss(LLMESR, 0.8)
    assert not torch.isclose(quiet["rank"], noisy["rank"])
    torch.testing.assert_close(quiet["distillation"], noisy["distillation"])
