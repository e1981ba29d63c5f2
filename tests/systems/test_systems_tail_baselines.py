"""MELT and CITIES: what their branches read, learn and overwrite; LLMInit's start."""

from __future__ import annotations

import pytest
import torch

from seqloom.core.config import apply_overrides
from seqloom.core.errors import ConfigError
from seqloom.core.progress import SilentProgress
from seqloom.data.sequences import Sequences
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.melt.phase import branch_losses
from seqloom.systems.occurrences import find_occurrences, head_from
from seqloom.systems.registry import system_class
from seqloom.systems.tail_blend import blended
from seqloom.systems.text_start import scaled_pca
from seqloom.text.store import load_embeddings
from support.datasets import SMALL, tiny_dataset


class Notes(SilentProgress):
    """Keeps what is noted."""

    def __init__(self, notes):
        self.notes = notes

    def note(self, message):
        self.notes.append(message)


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


@pytest.mark.parametrize("overrides", [["melt"], ["cities", "inference.tail_below=null"]])
def test_they_say_so(overrides, tmp_path):
    even = tiny_dataset(tmp_path / "even", [[1, 2, 1, 2], [2, 1, 2, 1]])
    with pytest.raises(ConfigError, match="needs a long tail"):
        build(even, *overrides).phases(TrainingData(even))


def test_cities_names_the_key_that_leaves_nothing_to_do(tmp_path):
    even = tiny_dataset(tmp_path / "even", [[1, 2, 1, 2], [2, 1, 2, 1]])
    with pytest.raises(ConfigError, match=r"tail_below is 9.*frequent one has 2.*nothing to learn"):
        build(even, "cities", "inference.tail_below=9").phases(TrainingData(even))
    notes = []
    progress = Notes(notes)
    phases = build(even, "cities", "inference.tail_below=2").phases(TrainingData(even, progress))
    assert [phase.name for phase in phases] == ["train"]
    assert "no item has fewer than 2 training events" in notes[0]


def test_llminit_starts_from_the_text_and_is_an_id_system_then(dataset):
    system = build(dataset, "llminit")
    text = load_embeddings(dataset).items
    expected = scaled_pca(text, 16, system.config.initial_std, system.config.whitening)
    torch.testing.assert_close(system.items.data, expected)
    assert system.items.requires_grad
    assert {name for name, _ in system.named_parameters()} == {
        name for name, _ in build(dataset, "sasrec").named_parameters()
    }


@pytest.mark.parametrize("name", ["melt", "cities"])
def test_the_base_starts_as_the_id_only_system(name, dataset):
    plain, system = build(dataset, "sasrec").state_dict(), build(dataset, name).state_dict()
    assert all(torch.equal(system[key], value) for key, value in plain.items())


def test_melt_blends_states_by_the_length_of_the_history(dataset):
    system = build(dataset, "melt").eval()
    items, lengths = torch.ones(3, 8, dtype=torch.int64), torch.tensor([1, 3, 8])
    with torch.no_grad():
        system.user_branch.weight.mul_(2)
        plain = system.plain_queries(items, lengths, system.items)
        assert torch.equal(system.queries(items, lengths, system.items), plain), "0: the base"
        system.user_blend.fill_(3.0)
        found = system.queries(items, lengths, system.items)
    for row, length in enumerate(lengths.tolist()):
        weight = 3 / (length + 3)
        torch.testing.assert_close(found[row], (1 - weight) * plain[row] + weight * 2 * plain[row])


def test_runs_of_earlier_versions_answer_as_they_did(dataset):
    system = build(dataset, "melt")
    state = system.state_dict()
    for name in ("started", "user_blend", "item_blend"):
        del state[name]
    state |= {"rewritten": torch.tensor(4), "user_threshold": torch.tensor(4)}
    system.load_state_dict(state)
    items, lengths = torch.ones(2, 4, dtype=torch.int64), torch.tensor([3, 4])
    with torch.no_grad():
        system.eval().user_branch.weight.mul_(2)
        plain = system.plain_queries(items, lengths, system.items)
        found = system.queries(items, lengths, system.items)
    torch.testing.assert_close(found, torch.stack([2 * plain[0], plain[1]]))
    older = build(dataset, "cities")
    state = older.state_dict()
    del state["item_blend"]
    older.load_state_dict(state)
    config = type(older.config).build({**SMALL, "inference": {"patience": 5}})
    assert config == older.config


def phase_of(system, dataset, name):
    return next(p for p in system.phases(TrainingData(dataset)) if p.name == name)


def test_melt_compares_base_blends_and_joint_training(dataset):
    phases = build(dataset, "melt").phases(TrainingData(dataset))
    assert [(phase.name, phase.validated) for phase in phases] == [
        ("train", True),
        ("users branch", False),
        ("user blend", True),
        ("items branch", False),
        ("item blend", True),
        ("joint", True),
    ]


def test_melt_learns_from_head_users_and_items_alone(dataset):
    system = build(dataset, "melt")
    joint = phase_of(system, dataset, "joint")
    head = joint.head
    steps = joint.steps(0)
    users, items = [], []
    for step in range(len(steps)):
        batch = steps[step]
        if batch.branches.users:
            few, full = batch.branches.users.few, batch.branches.users.full
            users += full.lengths.tolist()
            assert (few.lengths < head.user_threshold).all()
            for row in range(len(few.lengths)):
                last = full.items[row, : full.lengths[row]][-few.lengths[row] :]
                assert torch.equal(few.items[row, : few.lengths[row]], last)
        if batch.branches.items:
            items += batch.branches.items.items.tolist()
            assert (batch.branches.items.contexts.lengths > 0).all()
        counts = {name: part.count for name, part in joint.loss(batch).items()}
        assert counts == {
            "rank": batch.num_targets,
            "users": batch.branches.num_users,
            "items": batch.branches.num_items,
        }
    assert len(users) == int((dataset.train.lengths >= head.user_threshold).sum())
    assert sorted(items) == head.items.tolist()
    assert (dataset.popularity[head.items] >= head.item_threshold).all()
    assert (dataset.popularity[head.tail_items] < head.item_threshold).all()
    assert torch.equal(head.tail_counts, dataset.popularity[head.tail_items])


NOISY = ["encoder.dropout=0.9", "encoder.output_dropout=0.9"]


@pytest.mark.parametrize("kind", ["sasrec", "gru4rec", "bert4rec"])
def test_melts_branches_meet_no_dropout(kind, dataset):
    quiet, noisy = (
        build(dataset, "melt", f"encoder.kind={kind}", *overrides) for overrides in ([], NOISY)
    )
    noisy.load_state_dict(quiet.state_dict())
    for name in ("users", "items"):
        losses = []
        for system in (quiet.eval(), noisy.train()):
            phase = phase_of(system, dataset, f"{name} branch")
            batch = phase.steps(5)[0]  # the curriculum gives barely long ones no weight at first
            system.train(system is noisy)  # a start in evaluation mode is the loop's to undo
            torch.manual_seed(len(losses))
            losses.append(phase.loss(batch)[name].value)
        assert system.training, "the mode is put back"
        assert losses[0] > 0
        torch.testing.assert_close(losses[0], losses[1])


def test_melts_losses_are_what_slow_loops_make_of_them(dataset):
    system = build(dataset, "melt", "joint.user_weight=1", "joint.item_weight=1").eval()
    with torch.no_grad():
        system.item_branch.weight.add_(0.1)
        system.user_branch.weight.add_(0.1)
    batch = phase_of(system, dataset, "joint").steps(30)[0].branches
    found = branch_losses(system, batch, frozen=True)

    def states(histories):
        return system.plain_queries(histories.items, histories.lengths, system.items)

    with torch.no_grad():
        full, few = states(batch.users.full), system.user_branch(states(batch.users.few))
        contexts = states(batch.items.contexts)
        of_users = of_items = 0.0
        for row, weight in enumerate(batch.users.weights):
            of_users += weight * ((few[row] - full[row]) ** 2).mean() / len(few)
        for row, weight in enumerate(batch.items.weights):
            mean = contexts[batch.items.owner == row].mean(0)
            off = system.item_branch(mean) - system.items[batch.items.items[row] - 1]
            of_items += weight * (off**2).mean() / len(batch.items.items) / system.items.var()
    assert of_users > 0
    torch.testing.assert_close(found["users"].value, of_users)
    torch.testing.assert_close(found["items"].value, of_items)


def test_a_table_of_another_size_has_the_same_item_loss(dataset):
    system = build(dataset, "melt").eval()
    batch = phase_of(system, dataset, "joint").steps(30)[0].branches
    found = []
    for size in (1.0, 0.01):
        with torch.no_grad():  # states of the first encoder, whatever the rows
            system.items.mul_(size)
            system.scale /= size
            system.item_branch.weight.copy_(size * torch.eye(16))
        found.append(branch_losses(system, batch, frozen=True)["items"].value)
    assert found[0] > 0
    torch.testing.assert_close(found[0], found[1])


def test_the_backbone_learns_from_the_branches_in_the_joint_phase_alone(dataset):
    system = build(dataset, "melt").train()
    batch = phase_of(system, dataset, "joint").steps(0)[0].branches
    for frozen in (True, False):
        system.zero_grad()
        sum(part.value for part in branch_losses(system, batch, frozen=frozen).values()).backward()
        touched = {
            name.split(".")[0] for name, p in system.named_parameters() if p.grad is not None
        }
        assert ("encoder" in touched) == (not frozen)
        assert {"user_branch", "item_branch"} <= touched


def test_melts_item_branch_starts_at_the_size_of_the_rows(dataset):
    system = build(dataset, "melt")
    phase = phase_of(system, dataset, "items branch")
    phase.steps(0)
    head = phase.head
    rows = system.items[head.items - 1]
    owner, contexts = head.contexts(head.items, head.item_threshold, None)
    batch = contexts.pad(system.max_len)
    with torch.no_grad():
        states = system.eval().plain_queries(batch.items, batch.lengths, system.items)
        means = torch.stack([states[owner == at].mean(0) for at in range(len(rows))])
        found = system.item_branch(means)
        torch.testing.assert_close(system.context_means(head, head.items), means)
    left = (found - rows).square().sum()
    assert left < 1.01 * (rows - rows.mean(0)).square().sum(), "no worse than the mean row"
    fitted = system.item_branch.weight.detach().clone()
    with torch.no_grad():
        system.item_branch.weight.mul_(2)
    phase.steps(0)
    assert torch.equal(system.item_branch.weight, 2 * fitted), "a resumed epoch fits nothing"


def test_melt_blends_tail_rows_and_no_others(dataset):
    system = build(dataset, "melt")
    phase = phase_of(system, dataset, "items branch")
    phase.steps(0)
    head, before = phase.head, system.items.detach().clone()
    system.eval().item_blend.fill_(3.0)
    with torch.no_grad():
        inferred = system.item_branch(system.context_means(head, head.tail_items))
        batch = dataset.train.pad(system.max_len)
        state = system.plain_queries(batch.items, batch.lengths, before).mean(0)
    rows = head.tail_items - 1
    counts = dataset.popularity[head.tail_items]
    expected = blended(before[rows], inferred, counts, torch.tensor(3.0), state)
    torch.testing.assert_close(system.item_vectors()[rows], expected)
    assert torch.equal(system.train().item_vectors(), before), "training goes on with its own rows"
    system.finish()
    torch.testing.assert_close(system.items[rows].detach(), expected)
    changed = (system.items != before).any(1).nonzero().flatten()
    assert set(changed.tolist()) <= set(rows.tolist())
    assert len(changed)


def test_cities_blends_tail_rows_and_no_others(dataset):
    system = build(dataset, "cities", "inference.tail_below=12")
    tail = phase_of(system, dataset, "contexts")
    before = system.items.detach().clone()
    assert torch.equal(system.eval().item_vectors(), before), "0: the base"
    system.item_blend.fill_(1.0)
    rows = tail.tail_items - 1
    with torch.no_grad():
        inferred = system.inference(tail.contexts(tail.tail_items, None), before)
        batch = dataset.train.pad(system.max_len)
        state = system.queries(batch.items, batch.lengths, before).mean(0)
    counts = dataset.popularity[tail.tail_items]
    expected = blended(before[rows], inferred, counts, torch.tensor(1.0), state)
    torch.testing.assert_close(system.item_vectors()[rows], expected)
    system.finish()
    torch.testing.assert_close(system.items[rows].detach(), expected)
    changed = (system.items != before).any(1).nonzero().flatten()
    assert torch.equal(changed, rows)


@pytest.mark.parametrize("below", ["12", "null"])
def test_cities_completes_the_items_below_its_threshold(below, dataset):
    system = build(dataset, "cities", f"inference.tail_below={below}")
    tail = phase_of(system, dataset, "contexts")
    popularity = dataset.popularity
    threshold = 12 if below == "12" else head_from(popularity[1:], "items")
    assert (popularity[tail.tail_items] < threshold).all()
    assert (popularity[tail.head_items] >= threshold).all()
    assert len(tail.tail_items) + len(tail.head_items) == int((tail.occurrences.counts > 0).sum())
    most = tail.occurrences.counts[tail.tail_items - 1].max()
    assert tail.most_contexts == min(10, int(most))
    steps = tail.steps(0)
    widths = {steps[n].contexts.shape[1] for n in range(len(steps))}
    assert max(widths) <= tail.most_contexts


def test_cities_trains_the_inference_alone(dataset):
    system = build(dataset, "cities", "inference.tail_below=null")
    phase = phase_of(system, dataset, "contexts")
    assert not phase.validated, "how far the inference is followed is chosen afterwards"
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
