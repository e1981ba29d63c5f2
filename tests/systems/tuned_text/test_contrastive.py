"""The softmax within a batch, against loops; and gradients that chunks do not change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.systems.base import TrainingData
from seqloom.systems.tuned_text.config import TransformerTuningConfig
from seqloom.systems.tuned_text.transformer import TransformerEncoder


def encoder(data: Any, llama: Any, **changes: Any) -> Any:
    config = TransformerTuningConfig(
        **{"batch_size": 4, "negatives": 0, "decay": 0.5, "temperature": 0.5, **changes}
    )
    return TransformerEncoder(llama, config, TrainingData(data), torch.device("cpu"))


def test_the_loss_is_the_softmax_over_the_batch_without_the_history(data: Any, llama: Any) -> None:
    tuned = encoder(data, llama, correction=0.7)
    batch = tuned.phases()[0].steps(0)[0]
    found = tuned.phases()[0].loss(batch)["rank"].value.item()
    vectors = tuned.item_vectors().double()
    own = {int(i) for i in batch.inputs.items.flatten() if i}
    own |= {int(i) for i in batch.targets.flatten() if i}
    losses = []
    for items, length, targets in zip(
        batch.inputs.items.tolist(),
        batch.inputs.lengths.tolist(),
        batch.targets.tolist(),
        strict=True,
    ):
        for place in range(length):
            query = sum(0.5 ** (place - at) * vectors[items[at] - 1] for at in range(place + 1))
            query = query / query.norm() / 0.5
            target = targets[place]
            allowed = [i for i in own if i == target or i not in items[:length]]
            counts = [math.log(int(data.popularity[i]) + 1) for i in allowed]
            scores = [
                float(query @ vectors[i - 1]) - 0.7 * c
                for i, c in zip(allowed, counts, strict=True)
            ]
            whole = math.log(sum(map(math.exp, scores)))
            losses.append(whole - scores[allowed.index(target)])
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-4)


@pytest.mark.parametrize("changes", [{}, {"lora": {"rank": 2, "dropout": 0.0}}, {"layers": 1}])
def test_chunks_do_not_change_the_gradients(data: Any, llama: Any, changes: Any) -> None:
    found = []
    for chunk in (1, 100):
        torch.manual_seed(0)
        tuned = encoder(data, llama, chunk=chunk, **changes)
        phase = tuned.phases()[0]
        tuned.tower.train()
        phase.loss(phase.steps(0)[0])["rank"].value.backward()
        trained = [p for p in tuned.tower.parameters() if p.requires_grad and p.grad is not None]
        found.append(torch.cat([p.grad.flatten() for p in trained]))
    assert found[0].abs().max() > 0
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-6)


def test_mined_negatives_are_neighbours_of_the_targets(data: Any, llama: Any) -> None:
    tuned = encoder(data, llama, negatives=50)
    phase = tuned.phases()[0]
    batch = phase.steps(0)[0].share(slice(0, 1))
    targets = batch.targets.flatten()[batch.places]
    before = phase._candidates(batch.inputs.items, targets)
    vectors = tuned.item_vectors()
    nearest = (vectors @ vectors.T).fill_diagonal_(-2).argmax(1) + 1
    assert torch.equal(tuned.tower.neighbours[:, 0], nearest)
    torch.manual_seed(0)
    after = {i for _ in range(20) for i in phase._candidates(batch.inputs.items, targets).tolist()}
    assert set(before.tolist()) < after


def test_a_teacher_adds_the_cross_entropy_of_its_softmax(
    data: Any, llama: Any, tmp_path: Path
) -> None:
    from seqloom.pipelines.train.tune_encoder import tune_encoder

    words = {"epochs": 1, "width": 8, "words": {"min_count": 1}}
    tune_encoder(data, out=tmp_path / "words", config=words)
    tuned = encoder(data, llama, teacher=str(tmp_path / "words"), teacher_weight=2.0)
    phase = tuned.phases()[0]
    parts = phase.loss(phase.steps(0)[0])
    assert parts.keys() == {"rank", "teacher"}
    assert parts["teacher"].value.item() > 0
    assert parts["teacher"].value.requires_grad
