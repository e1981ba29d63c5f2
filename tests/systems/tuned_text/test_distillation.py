"""The two losses of distillation against loops, and what each phase begins from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from seqloom.pipelines.train.tune_encoder import tune_encoder
from seqloom.systems.base import TrainingData
from seqloom.systems.tuned_text.batches import TextBatch
from seqloom.systems.tuned_text.config import DistilledTuningConfig
from seqloom.systems.tuned_text.distillation import fit_head
from seqloom.systems.tuned_text.distilled import DistilledEncoder
from seqloom.text.encoders import build_encoder
from seqloom.text.options import EncoderOptions
from seqloom.text.whitening import fit_whitening, whitened


def encoder(data: Any, llama: Any, table: Any = None, **changes: Any) -> Any:
    sections = {"batch_size": 4, "temperature": 0.5, "popularity_offset": 0.7, **(table or {})}
    config = DistilledTuningConfig.build({"decay": 0.5, "table": sections, **changes})
    return DistilledEncoder(llama, config, TrainingData(data), torch.device("cpu"))


def test_the_table_learns_the_softmax_over_the_catalogue_without_the_history(
    data: Any, llama: Any
) -> None:
    tuned = encoder(data, llama)
    phase = tuned.phases()[0]
    batch = phase.steps(0)[0]
    found = phase.loss(batch)["rank"].value.item()
    vectors = tuned.item_vectors().double()
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
            allowed = [i for i in range(1, 8) if i == target or i not in items[:length]]
            scores = [
                float(query @ vectors[i - 1]) + 0.7 * math.log(int(data.popularity[i]) + 1)
                for i in allowed
            ]
            whole = math.log(sum(map(math.exp, scores)))
            losses.append(whole - scores[allowed.index(target)])
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_the_model_learns_the_similarities_and_directions_of_the_table(
    data: Any, llama: Any
) -> None:
    tuned = encoder(data, llama, temperature=0.2)
    table_phase, phase = tuned.phases()
    table_phase.steps(0)
    table = tuned.item_vectors().double()
    phase.steps(0)
    with torch.no_grad():
        tuned._head.weight += 0.1 * torch.randn_like(tuned._head.weight)
    vectors = tuned.item_vectors().double()
    items = [3, 1, 6]
    divergence = cosine = 0.0
    for item in items:
        wanted = (table[item - 1] @ table.T / 0.2).softmax(0)
        found = (vectors[item - 1] @ table.T / 0.2).softmax(0)
        divergence += float((wanted * (wanted / found).log()).sum())
        cosine += float(vectors[item - 1] @ table[item - 1])
    parts = phase.loss(TextBatch(torch.tensor(items)))
    assert parts["similarities"].value.item() == pytest.approx(0.2 * divergence / 3, rel=1e-3)
    assert parts["direction"].value.item() == pytest.approx(1 - cosine / 3, rel=1e-3, abs=1e-6)


def test_the_table_starts_as_the_teacher_beside_the_model(
    data: Any, llama: Any, tmp_path: Path
) -> None:
    words = {"epochs": 1, "width": 8, "words": {"min_count": 1}}
    tune_encoder(data, out=tmp_path / "words", config=words)
    teacher = build_encoder(EncoderOptions(encoder=str(tmp_path / "words")))
    tuned = encoder(
        data,
        llama,
        {"teacher_share": 0.6, "whitening": 0.5},
        teacher=str(tmp_path / "words"),
        max_tokens=128,
    )
    tuned.phases()[0].steps(0)
    start = tuned.item_vectors()
    theirs = F.normalize(teacher.encode(tuned.texts.texts), dim=1)
    own = build_encoder(EncoderOptions(encoder=llama, pooling="mean")).encode(tuned.texts.texts)
    fitted = fit_whitening(own, 0.5)
    own = whitened(own, fitted.mean, fitted.matrix)
    torch.testing.assert_close(
        start @ start.T, 0.6 * theirs @ theirs.T + 0.4 * own @ own.T, rtol=0, atol=1e-4
    )


def test_a_phase_that_has_begun_does_not_begin_again(data: Any, llama: Any) -> None:
    tuned = encoder(data, llama)
    table, distil = tuned.phases()
    table.steps(0)
    with torch.no_grad():
        tuned.tower.table.weight.fill_(1.0)
    table.steps(0)
    assert bool((tuned.tower.table.weight == 1.0).all())
    distil.steps(0)
    with torch.no_grad():
        tuned._head.weight.fill_(2.0)
    distil.steps(0)
    assert bool((tuned._head.weight == 2.0).all())


def test_dropout_stays_off(data: Any, llama: Any) -> None:
    tuned = encoder(data, llama)
    modules = list(tuned.tower.text.model.modules())
    for phase in tuned.phases():
        assert not any(module.training for module in modules)
        phase.module.train()
    assert not any(module.training for module in modules)


def test_the_head_starts_as_the_regression_on_the_table() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(500, 6) + 3.0
    exact = torch.nn.Linear(6, 9)
    head = torch.nn.Linear(6, 9)
    with torch.no_grad():
        table = exact(vectors)
        fit_head(head, vectors, table)
        close = F.cosine_similarity(head(vectors), table, dim=1)
    assert float(close.min()) > 0.99
    torch.testing.assert_close(head(vectors).mean(0), table.mean(0), rtol=1e-4, atol=1e-4)
