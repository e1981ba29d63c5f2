"""Blending inferred rows with trained ones, against slow float64 loops."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.config import apply_overrides
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.tail_blend import (
    BLENDS,
    BlendPhase,
    blend_weight,
    blended,
    encode_all,
    matched,
)
from support.datasets import SMALL


def rows(count: int, width: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, width, generator=draw, dtype=torch.float64) + 0.3


def slow_blend(
    trained: torch.Tensor, inferred: Any, counts: torch.Tensor, k: float, state: Any
) -> torch.Tensor:
    count, width = trained.shape
    centre, other = ([sum(m[:, d]) / count for d in range(width)] for m in (trained, inferred))

    def radius(m: Any, c: list[Any]) -> float:
        whole = sum((m[i, d] - c[d]) ** 2 for i in range(count) for d in range(width))
        return math.sqrt(whole / count)

    stretch = radius(trained, centre) / radius(inferred, other)
    length = math.sqrt(sum(s**2 for s in state))
    actual = torch.zeros_like(trained)
    for i in range(count):
        moved = [centre[d] + stretch * (inferred[i, d] - other[d]) for d in range(width)]
        change = [moved[d] - trained[i, d] for d in range(width)]
        along = sum(change[d] * state[d] / length for d in range(width))
        for d in range(width):
            kept = change[d] - along * state[d] / length
            actual[i, d] = trained[i, d] + k / (counts[i] + k) * kept
    return actual


def test_a_blend_is_what_a_slow_loop_makes_of_it() -> None:
    trained, inferred, state = rows(7, 4, 0), rows(7, 4, 1, 0.2), rows(1, 4, 2)[0]
    counts = torch.tensor([1, 2, 3, 4, 1, 9, 30])
    actual = blended(trained, inferred, counts.double(), torch.tensor(3.0), state)
    torch.testing.assert_close(actual, slow_blend(trained, inferred, counts, 3.0, state))


@pytest.mark.parametrize("k", [0.0, 0.3, 10.0, math.inf])
def test_a_blended_row_keeps_its_mean_score(k: float) -> None:
    trained, inferred, state = rows(7, 4, 0), rows(7, 4, 1, 0.2), rows(1, 4, 2)[0]
    actual = blended(trained, inferred, torch.arange(1, 8), torch.tensor(k).double(), state)
    torch.testing.assert_close(actual @ state, trained @ state)
    assert torch.equal(actual, trained) == (k == 0)


def test_matched_rows_have_the_centre_and_the_radius_of_the_trained_ones() -> None:
    trained, inferred = rows(50, 3, 0), rows(50, 3, 1, 0.05)
    actual = matched(inferred, trained)
    torch.testing.assert_close(actual.mean(0), trained.mean(0))
    assert float(actual.var()) == pytest.approx(float(trained.var()), rel=0.1)
    assert float(inferred.var()) < 0.01 * float(trained.var())
    same = matched(inferred[:1].expand(4, 3), trained[:4])
    torch.testing.assert_close(same, trained[:4].mean(0).expand(4, 3))


def test_the_weight_falls_with_the_count() -> None:
    counts = torch.tensor([1, 3, 9])
    weight = blend_weight(counts, torch.tensor(3.0))
    torch.testing.assert_close(weight, torch.tensor([0.75, 0.5, 0.25]))
    assert blend_weight(counts, torch.tensor(0.0)).tolist() == [0, 0, 0]
    assert blend_weight(counts, torch.tensor(math.inf)).tolist() == [1, 1, 1]
    nothing = torch.tensor([0])
    assert blend_weight(nothing, torch.tensor(0.0)).tolist() == [0], "the base, not 0 / 0"
    assert blend_weight(nothing, torch.tensor(3.0)).tolist() == [1]


def test_histories_are_encoded_in_their_order() -> None:
    histories = Sequences.from_lists([[5, 5, 5], [1], [2, 2], [7]])
    actual = encode_all(histories, lambda some: some.items[some.starts][:, None].float())
    assert actual[:, 0].tolist() == [5, 1, 2, 7]


def test_every_candidate_is_validated_and_nothing_is_trained() -> None:
    module: Any = torch.nn.Linear(2, 2)
    module.register_buffer("k", torch.tensor(9.0))
    phase = BlendPhase("blend", module, "k")
    assert phase.validated
    assert phase.optimisation.epochs == len(BLENDS)
    seen: Any = []
    for epoch in range(phase.optimisation.epochs):
        assert len(phase.steps(epoch)) == 0
        seen.append(float(module.k))
    assert seen == pytest.approx(BLENDS)
    assert seen[0] == 0, "the base comes first, so that a tie leaves it as it is"


@pytest.mark.parametrize(
    ("system", "short"),
    [
        ("melt", ["joint.epochs=0", "branches.epochs=2"]),
        ("cities", ["inference.epochs=2", "inference.tail_below=null"]),
    ],
)
def test_a_run_is_its_base_or_better_on_validation(
    system: str, short: list[str], dataset: Dataset, tmp_path: Path
) -> None:
    config = apply_overrides(SMALL, ["epochs=6", "patience=null", *short])
    base = apply_overrides(SMALL, ["epochs=6", "patience=null"])
    plain = train(dataset, "sasrec", out=tmp_path / "base", config=base, device="cpu")
    done = train(dataset, system, out=tmp_path / "done", config=config, device="cpu")
    assert done.valid["ndcg@10"] >= plain.valid["ndcg@10"]
    assert done.targets_per_epoch == plain.targets_per_epoch
    first: Any = load_run(tmp_path / "base").system
    second: Any = load_run(tmp_path / "done").system
    for name, value in first.encoder.state_dict().items():
        assert torch.equal(second.encoder.state_dict()[name], value), "the base is the ID-only run"
