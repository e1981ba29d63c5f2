"""MELT and CITIES: what their branches read, learn and overwrite; LLMInit's start."""

from __future__ import annotations

import pytest
import torch

from helpers import SMALL, tiny_dataset
from seqloom.core.config import apply_overrides
from seqloom.core.errors import ConfigError
from seqloom.data.sequences import Sequences
from seqloom.runs.folder import load_run
from seqloom.runs.train import train
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.occurrences import find_occurrences, head_from
from seqloom.systems.registry import system_class
from seqloom.systems.text_start import scaled_pca
from seqloom.text.store import load_embeddings

TRAIN = Sequences.from_lists([[1, 2, 3], [2], [3, 1, 2, 2]])


def build(dataset, name, *overrides):
    cls = system_class(name)
    config = cls.config_class.build(apply_overrides(SMALL, overrides))
    text_size = load_embeddings(dataset).width if cls.uses_text else 0
    torch.manual_seed(0)
    system = cls(config, Sizes(num_items=dataset.num_items, text_size=text_size))
    system.initialise(TrainingData(dataset))
    return system


def test_occurrences_after_something():
    found = find_occurrences(TRAIN, 4, 0, after=1)
    assert found.counts.tolist() == [1, 3, 1, 0]
    which, real = found.draw(torch.tensor([2, 1, 4]), 5)
    assert real.sum(1).tolist() == [3, 1, 0]
    histories = found.before(which[0][real[0]]).pad()
    rows = {
        tuple(row[:n].tolist()) for row, n in zip(histories.items, histories.lengths, strict=True)
    }
    assert rows == {(1,), (3, 1), (3, 1, 2)}


def test_items_around_an_occurrence():
    found = find_occurrences(TRAIN, 4, 0, after=0)
    assert found.counts.tolist() == [2, 3, 2, 0]
    which, _ = found.draw(torch.tensor([3]), 2)
    around = {tuple(row) for row in found.around(which[0], 2).tolist()}
    assert around == {(1, 2, 0, 0), (0, 0, 1, 2)}


def test_a_draw_takes_distinct_occurrences_from_any_start():
    found = find_occurrences(TRAIN, 4, 0, after=0)
    for start in range(3):
        which, real = found.draw(torch.tensor([2]), 2, torch.tensor([start]))
        assert real.all()
        assert len(set(which[0].tolist())) == 2


def test_without_a_long_tail_there_is_nothing_to_complete():
    assert head_from(torch.tensor([1, 1, 1, 1, 9]), "items") == 9
    with pytest.raises(ConfigError, match="all users have 3 training events"):
        head_from(torch.tensor([3, 3]), "users")


@pytest.mark.parametrize("name", ["melt", "cities"])
def test_they_say_so(name, tmp_path):
    even = tiny_dataset(tmp_path / "even", [[1, 2, 1, 2], [2, 1, 2, 1]])
    with pytest.raises(ConfigError, match="needs a long tail"):
        build(even, name).phases(TrainingData(even))


def test_llminit_starts_from_the_text_and_is_an_id_system_then(dataset):
    system = build(dataset, "llminit")
    text = load_embeddings(dataset).items
    expected = scaled_pca(text, 16, system.config.initial_std, system.config.whitening)
    torch.testing.assert_close(system.items.data, expected)
    assert system.items.requires_grad
    assert {name for name, _ in system.named_parameters()} == {
        name for name, _ in build(dataset, "sasrec").named_parameters()
    }


def test_melt_sends_short_histories_through_the_user_branch(dataset):
    system = build(dataset, "melt").eval()
    system.phases(TrainingData(dataset))
    threshold = int(system.user_threshold)
    assert threshold == min(head_from(dataset.train.lengths, "users"), system.max_len)
    with torch.no_grad():
        system.user_branch.weight.mul_(2)
        items = torch.ones(2, threshold, dtype=torch.int64)
        lengths = torch.tensor([threshold - 1, threshold])
        plain = system.plain_queries(items, lengths, system.items)
        found = system.queries(items, lengths, system.items)
    torch.testing.assert_close(found, torch.stack([2 * plain[0], plain[1]]))


def test_melt_learns_from_head_users_and_items_alone(dataset):
    system = build(dataset, "melt")
    _, joint = system.phases(TrainingData(dataset))
    steps = joint.steps(0)
    users, items = [], []
    for step in range(len(steps)):
        batch = steps[step]
        if batch.users:
            users += batch.users.full.lengths.tolist()
            assert (batch.users.few.lengths < joint.user_threshold).all()
            for row in range(len(batch.users.few.lengths)):
                few, full = batch.users.few, batch.users.full
                last = full.items[row, : full.lengths[row]][-few.lengths[row] :]
                assert torch.equal(few.items[row, : few.lengths[row]], last)
        if batch.items:
            items += batch.items.items.tolist()
            assert (batch.items.contexts.lengths > 0).all()
        counts = {name: part.count for name, part in joint.loss(batch).items()}
        assert counts == {
            "rank": batch.num_targets,
            "users": len(batch.users.weights) if batch.users else 0,
            "items": len(batch.items.weights) if batch.items else 0,
        }
    assert len(users) == int((dataset.train.lengths >= joint.user_threshold).sum())
    assert sorted(items) == joint.head_items.tolist()
    assert (dataset.popularity[joint.head_items] >= joint.item_threshold).all()
    assert (dataset.popularity[joint.tail_items] < joint.item_threshold).all()


def test_melt_rewrites_tail_rows_from_the_second_epoch_on(dataset):
    system = build(dataset, "melt")
    _, joint = system.phases(TrainingData(dataset))
    before = system.items.detach().clone()
    joint.steps(0)
    assert torch.equal(system.items, before)
    joint.steps(1)
    changed = (system.items != before).any(1).nonzero().flatten() + 1
    assert torch.equal(changed, joint.tail_items)
    item = int(joint.tail_items[0])
    _, contexts = joint.contexts(torch.tensor([item]), joint.item_threshold, None)
    batch = contexts.pad(system.max_len)
    with torch.no_grad():
        states = system.eval().queries(batch.items, batch.lengths, before)
        expected = system.item_branch(states.mean(0))
    torch.testing.assert_close(system.items[item - 1], expected)
    again = system.items.detach().clone()
    joint.steps(1)
    assert torch.equal(system.items, again), "a resumed epoch rewrites nothing"


def test_melts_item_branch_starts_at_the_size_of_the_rows(dataset):
    system = build(dataset, "melt")
    _, joint = system.phases(TrainingData(dataset))
    joint.steps(0)
    rows = system.items[joint.head_items - 1]
    owner, contexts = joint.contexts(joint.head_items, joint.item_threshold, None)
    batch = contexts.pad(system.max_len)
    with torch.no_grad():
        states = system.eval().queries(batch.items, batch.lengths, system.items)
        means = torch.stack([states[owner == at].mean(0) for at in range(len(rows))])
        found = system.item_branch(means)
    left = (found - rows).square().sum()
    assert left < 1.01 * (rows - rows.mean(0)).square().sum(), "no worse than the mean row"
    fitted = system.item_branch.weight.detach().clone()
    with torch.no_grad():
        system.item_branch.weight.mul_(2)
    joint.steps(0)
    assert torch.equal(system.item_branch.weight, 2 * fitted), "a resumed epoch fits nothing"


def test_cities_overwrites_tail_rows_and_no_others(dataset, tmp_path):
    short = {**SMALL, "inference": {"epochs": 0}}
    train(dataset, "cities", out=tmp_path / "without", config=short, device="cpu")
    longer = {**SMALL, "inference": {"epochs": 1, "patience": None}}
    train(dataset, "cities", out=tmp_path / "with", config=longer, device="cpu")
    plain, done = (load_run(tmp_path / name).system for name in ("without", "with"))
    phase = build(dataset, "cities").phases(TrainingData(dataset))[1]
    changed = (plain.items != done.items).any(1).nonzero().flatten() + 1
    assert torch.equal(changed, phase.tail_items)
    contexts = phase.contexts(phase.tail_items, None)
    with torch.no_grad():
        expected = done.inference(contexts, plain.items)
    torch.testing.assert_close(done.items[phase.tail_items - 1], expected)


def test_cities_trains_the_inference_alone(dataset):
    system = build(dataset, "cities")
    _, phase = system.phases(TrainingData(dataset))
    batch = phase.steps(0)[0]
    assert set(batch.items.tolist()) <= set(phase.head_items.tolist())
    phase.loss(batch)["loss"].value.backward()
    touched = {name.split(".")[0] for name, p in system.named_parameters() if p.grad is not None}
    assert touched == {"inference"}


def test_an_inference_does_not_depend_on_padding_or_on_the_order_of_contexts(dataset):
    system = build(dataset, "cities").eval()
    contexts = torch.tensor([[[0, 3, 5, 0], [7, 0, 9, 1]]])
    contexts = torch.nn.functional.pad(contexts, (6, 6))
    with torch.no_grad():
        first = system.inference(contexts, system.items)
        second = system.inference(contexts[:, [1, 0]], system.items)
        padded = system.inference(torch.nn.functional.pad(contexts, (0, 0, 0, 3)), system.items)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, padded)
