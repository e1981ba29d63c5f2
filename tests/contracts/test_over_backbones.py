"""Every system over every encoder: trains, ranks, resumes; BERT4Rec is asked with a [MASK]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.config import apply_overrides
from seqloom.data.store import Dataset
from seqloom.nn.attention import last_position
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.base import Sizes, System, TrainingData
from seqloom.systems.registry import system_class
from seqloom.systems.tail_blend import BLENDS, SCORE_BLENDS
from seqloom.text.store import load_embeddings
from support.datasets import SMALL

FEW = {
    "melt": ["joint.epochs=2", "branches.epochs=1"],
    "cities": ["inference.epochs=2", "inference.tail_below=null"],
    "llmesr": ["semantic.tower.epochs=2"],
}
LATER = {
    "melt": (4 + 2 * len(BLENDS), 2 + 2 * len(BLENDS)),
    "cities": (2 + len(BLENDS), len(BLENDS)),
    "llmesr": (2 + len(SCORE_BLENDS), 2 + len(SCORE_BLENDS)),
}
"""Epochs and validations of the phases beside the ranking phase."""
PAPER = ("semantic.encoder=shared", "distillation.alpha=0.1")
"""The views of LLM-ESR's paper and its distillation."""
OVER = [
    (system, kind)
    for system in ("llminit", "melt", "cities", "llmesr")
    for kind in ("gru4rec", "bert4rec", "bsarec")
]


def config_for(system: str, *overrides: Any) -> dict[str, Any]:
    return apply_overrides(SMALL, [*FEW.get(system, []), *overrides])


def build(dataset: Dataset, name: str, *overrides: Any) -> System[Any]:
    cls = system_class(name)
    config = cls.config_class.build(config_for(name, *overrides))
    text_size = load_embeddings(dataset).width if config.embeddings else 0
    torch.manual_seed(0)
    system = cls(config, Sizes(num_items=dataset.num_items, text_size=text_size))
    system.initialise(TrainingData(dataset))
    return system


class KilledError(Exception):
    pass


@pytest.mark.parametrize(("system", "kind"), OVER)
def test_it_trains_and_a_killed_run_ends_with_the_same_weights(
    system: str, kind: str, dataset: Dataset, tmp_path: Path
) -> None:
    config = config_for(system, f"encoder.kind={kind}", "epochs=2")
    whole = train(dataset, system, out=tmp_path / "whole", config=config, device="cpu")
    epochs, validations = (2 + later for later in LATER.get(system, (0, 0)))
    assert whole.epochs == epochs
    assert whole.valid["hr@10"] > 0

    def kill(count: Any, metrics: Any) -> None:
        if count == validations:
            raise KilledError

    with pytest.raises(KilledError):
        train(dataset, system, out=tmp_path / "cut", config=config, device="cpu", watch=kill)
    counts = []
    train(
        dataset,
        system,
        out=tmp_path / "cut",
        config=config,
        device="cpu",
        resume=True,
        watch=lambda count, metrics: counts.append(count),
    )
    assert counts == [validations]
    first, second = (load_run(tmp_path / n).system.state_dict() for n in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["bert4rec", "llmesr"])
def test_the_answer_of_bert4rec_is_the_state_of_its_mask(name: str, dataset: Dataset) -> None:
    system: Any = build(dataset, name, "encoder.kind=bert4rec").eval()
    items, lengths = torch.tensor([[3, 9, 27], [5, 0, 0]]), torch.tensor([3, 1])
    with torch.inference_mode():
        vectors = system.item_vectors()
        requested = system.queries(items, lengths, vectors)
        by_hand = torch.tensor([[3, 9, 27, 41], [5, 41, 0, 0]])
        states = system.states(by_hand, lengths + 1, vectors)
        torch.testing.assert_close(requested, last_position(states, lengths + 1))
        system.mask_vector += 1.0 + torch.arange(len(system.mask_vector))
        assert not torch.allclose(requested, system.queries(items, lengths, vectors))


def test_a_cloze_loss_is_finite_where_masks_are_rare(dataset: Dataset) -> None:
    overrides = ["encoder.mask_probability=0.000001", "encoder.last_probability=0"]
    system = build(dataset, "bert4rec", *overrides)
    (phase,) = system.phases(TrainingData(dataset))
    steps = phase.steps(0)
    for step in range(len(steps)):
        batch = steps[step]
        assert (batch.targets > 0).sum(1).min() == 1
        assert torch.isfinite(phase.loss(batch)["rank"].value)


@pytest.mark.parametrize("kind", ["sasrec", "bert4rec"])
def test_teachers_are_queried_as_at_inference(kind: str, dataset: Dataset) -> None:
    system: Any = build(dataset, "llmesr", *PAPER, f"encoder.kind={kind}")
    phase = system.phases(TrainingData(dataset))[0]
    phase.steps(0)
    users = torch.tensor([4, 0, 17])
    batch: Any = dataset.train.select(users).pad(system.max_len)
    with torch.inference_mode():
        expected = system.eval().queries(batch.items, batch.lengths, system.item_vectors())
    torch.testing.assert_close(system.distillation.bank[users], expected)


def test_only_rows_that_hide_their_last_item_have_a_student(dataset: Dataset) -> None:
    never, always = (
        build(
            dataset,
            "llmesr",
            *PAPER,
            "encoder.kind=bert4rec",
            "encoder.mask_probability=0.2",
            f"encoder.last_probability={share}",
        )
        for share in (0.0, 1.0)
    )
    system: Any
    for system, all_of_them in ((never, False), (always, True)):
        phase: Any = system.phases(TrainingData(dataset))[0]
        batch: Any = phase.steps(0)[0]
        states = torch.randn(*batch.inputs.items.shape, system.vector_size)
        hidden = last_position(batch.targets, batch.inputs.lengths) > 0
        assert bool(hidden.all()) == all_of_them
        actual = system.distillation(batch, states, system._represent)
        students = last_position(states, batch.inputs.lengths)
        own = phase.rows.users[batch.rows]
        teachers = system.distillation.bank[system.distillation._similar[own][:, :10]].mean(1)
        keep = hidden & phase.rows.is_last[batch.rows]
        expected = 0.1 * ((students - teachers) ** 2)[keep].mean()
        assert actual.count == int(keep.sum())
        torch.testing.assert_close(actual.value, expected)


@pytest.mark.parametrize(
    ("kind", "scaled"), [("sasrec", True), ("bert4rec", True), ("bsarec", True), ("gru4rec", False)]
)
def test_llmesr_scales_both_views_before_a_transformer_alone(
    kind: str, scaled: bool, dataset: Dataset
) -> None:
    with_scale: Any
    without: Any
    with_scale, without = (
        build(dataset, "llmesr", *PAPER, f"encoder.kind={kind}", f"scale_inputs={value}").eval()
        for value in ("true", "false")
    )
    items, lengths = torch.tensor([[3, 9]]), torch.tensor([2])
    with torch.inference_mode():
        vectors = without.item_vectors()
        first = with_scale.states(items, lengths, vectors)
        by_hand = without.states(items, lengths, vectors * (4.0 if scaled else 1.0))
    torch.testing.assert_close(first, by_hand)  # 4 is the root of the width 16


@pytest.mark.parametrize("system", ["gru4rec", "llmesr"])
def test_gru4rec_may_train_on_the_last_item_alone(system: str, dataset: Dataset) -> None:
    kind = [] if system == "gru4rec" else [*PAPER, "encoder.kind=gru4rec"]
    every, last = (
        build(dataset, system, *kind, f"encoder.train_on={which}").phases(TrainingData(dataset))[0]
        for which in ("every", "last")
    )
    steps, others = last.steps(0), every.steps(0)
    for step in range(len(steps)):
        batch, whole = steps[step], others[step]
        assert batch.num_targets == len(batch.rows)
        assert torch.equal(batch.inputs.items, whole.inputs.items)
        expected = last_position(whole.targets, whole.inputs.lengths)
        assert torch.equal(last_position(batch.targets, batch.inputs.lengths), expected)
        assert torch.equal(batch.targets.sum(1), expected)
        assert torch.isfinite(last.loss(batch)["rank"].value)


@pytest.mark.parametrize(
    ("kind", "scaled"), [("sasrec", True), ("bert4rec", True), ("bsarec", True), ("gru4rec", False)]
)
def test_inputs_are_scaled_before_a_transformer_alone(
    kind: str, scaled: bool, dataset: Dataset
) -> None:
    with_scale: Any
    without: Any
    with_scale, without = (
        build(dataset, "llminit", f"encoder.kind={kind}", f"scale_inputs={value}").eval()
        for value in ("true", "false")
    )
    items, lengths = torch.tensor([[3, 9]]), torch.tensor([2])
    with torch.inference_mode():
        first, second = (s.states(items, lengths, s.items) for s in (with_scale, without))
        entered = without.encoder.enter(without.embed(items, without.items) * 4.0, lengths)
        by_hand = without.encoder(entered, lengths)  # 4 is the root of the width 16
    assert torch.allclose(first, second) != scaled
    if scaled:
        torch.testing.assert_close(first, by_hand)


@pytest.mark.parametrize(
    ("kind", "patience"), [("softmax", 10), ("sampled-softmax", 10), ("bce", 20), ("gbce", 20)]
)
@pytest.mark.parametrize("system", ["sasrec", "bert4rec", "llminit", "melt", "llmesr"])
def test_patience_goes_by_the_loss_unless_it_is_given(
    system: str, kind: str, patience: int
) -> None:
    config_class: Any = system_class(system).config_class

    def built(**keys: Any) -> Any:
        return config_class.build({"loss": {"kind": kind}, **keys}).optimisation()

    assert (built().patience, built().patience_steps) == (patience, 250)
    assert (built(patience=3).patience, built(patience=3).patience_steps) == (3, 0)
    assert built(patience=None).patience is None
    other = built(learning_rate=0.5, averaging=None, warmup_steps=7)
    assert (other.learning_rate, other.averaging, other.warmup_steps) == (0.5, None, 7)
