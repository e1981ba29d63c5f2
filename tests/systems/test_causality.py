"""No position of a sequence system sees a later item, and held-out items reach no training batch."""

from __future__ import annotations

import pytest
import torch

from helpers import SMALL
from seqloom.core.config import apply_overrides
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.registry import system_class
from seqloom.text.store import load_embeddings

CASES = [
    ("sasrec", []),
    ("llmesr", []),
    ("llmesr", ["fusion.residual=false"]),
    ("llmesr", ["shared_encoder=false"]),
    ("llmesr", ["views=semantic"]),
]


def build(dataset, name, overrides):
    cls = system_class(name)
    config = cls.config_class.build(apply_overrides(SMALL, overrides))
    text_size = load_embeddings(dataset).width if cls.uses_text else 0
    torch.manual_seed(0)
    system = cls(config, Sizes(num_items=dataset.num_items, text_size=text_size))
    system.initialise(TrainingData(dataset))
    return system.eval()


@pytest.mark.parametrize(("name", "overrides"), CASES)
def test_a_later_item_changes_no_earlier_state(dataset, name, overrides):
    system = build(dataset, name, overrides)
    items = torch.tensor([[3, 9, 27, 5, 11]])
    changed = torch.tensor([[3, 9, 27, 5, 30]])
    lengths = torch.tensor([5])
    with torch.inference_mode():
        vectors = system.item_vectors()
        first, second = (system.states(x, lengths, vectors) for x in (items, changed))
    torch.testing.assert_close(first[:, :4], second[:, :4])
    assert not torch.allclose(first[:, 4], second[:, 4])


@pytest.mark.parametrize("name", ["sasrec", "llmesr"])
def test_training_batches_hold_the_training_part_alone(dataset, name):
    (phase,) = build(dataset, name, []).phases(TrainingData(dataset))
    steps = phase.steps(0)
    seen = {}
    for step in range(len(steps)):
        batch = steps[step]
        users = phase.rows.users[batch.rows].tolist()
        for user, inputs, targets in zip(users, batch.inputs.items, batch.targets, strict=True):
            items = [int(i) for i in (*inputs[:1], *targets) if i]
            seen.setdefault(user, []).append(items)
    train = dataset.train
    for user, rows in seen.items():
        part = train.select(torch.tensor([user])).flat()[1].tolist()
        for row in rows:
            assert any(row == part[i : i + len(row)] for i in range(len(part)))
