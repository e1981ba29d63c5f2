"""MELT: what its branches read, learn and complete."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqloom.data.sequences import PaddedBatch
from seqloom.data.store import Dataset
from seqloom.distributed.process_group import rows_of_process
from seqloom.systems.base import TrainingData
from seqloom.systems.melt.phase import branch_losses
from seqloom.systems.tail_blend import blended
from support.untrained_systems import phase_of, untrained_system

NOISY = ["encoder.dropout=0.9", "encoder.output_dropout=0.9"]


def test_blends_states_by_the_length_of_the_history(dataset: Dataset) -> None:
    system = untrained_system(dataset, "melt").eval()
    items, lengths = torch.ones(3, 8, dtype=torch.int64), torch.tensor([1, 3, 8])
    with torch.no_grad():
        system.user_branch.weight.mul_(2)
        plain = system.plain_queries(items, lengths, system.items)
        assert torch.equal(system.queries(items, lengths, system.items), plain), "0: the base"
        system.user_blend.fill_(3.0)
        actual = system.queries(items, lengths, system.items)
    for row, length in enumerate(lengths.tolist()):
        weight = 3 / (length + 3)
        torch.testing.assert_close(actual[row], (1 - weight) * plain[row] + weight * 2 * plain[row])


def test_runs_of_earlier_versions_score_unchanged(dataset: Dataset) -> None:
    system = untrained_system(dataset, "melt")
    state = system.state_dict()
    for name in ("started", "user_blend", "item_blend"):
        del state[name]
    state |= {"rewritten": torch.tensor(4), "user_threshold": torch.tensor(4)}
    system.load_state_dict(state)
    items, lengths = torch.ones(2, 4, dtype=torch.int64), torch.tensor([3, 4])
    with torch.no_grad():
        system.eval().user_branch.weight.mul_(2)
        plain = system.plain_queries(items, lengths, system.items)
        actual = system.queries(items, lengths, system.items)
    torch.testing.assert_close(actual, torch.stack([2 * plain[0], plain[1]]))


def test_validation_compares_base_blends_and_joint_training(dataset: Dataset) -> None:
    phases = untrained_system(dataset, "melt").phases(TrainingData(dataset))
    assert [(phase.name, phase.validated) for phase in phases] == [
        ("train", True),
        ("users branch", False),
        ("user blend", True),
        ("items branch", False),
        ("item blend", True),
        ("joint", True),
    ]


def test_branches_learn_from_head_users_and_items_only(dataset: Dataset) -> None:
    system = untrained_system(dataset, "melt")
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


@pytest.mark.parametrize("kind", ["sasrec", "gru4rec", "bert4rec"])
def test_branches_read_states_without_dropout(kind: str, dataset: Dataset) -> None:
    quiet, noisy = (
        untrained_system(dataset, "melt", f"encoder.kind={kind}", *overrides)
        for overrides in ([], NOISY)
    )
    noisy.load_state_dict(quiet.state_dict())
    for name in ("users", "items"):
        losses: list[Any] = []
        for system in (quiet.eval(), noisy.train()):
            phase = phase_of(system, dataset, f"{name} branch")
            batch = phase.steps(5)[0]  # the curriculum gives barely long ones no weight at first
            system.train(system is noisy)  # a start in evaluation mode is the loop's to undo
            torch.manual_seed(len(losses))
            losses.append(phase.loss(batch)[name].value)
        assert system.training, "the mode is put back"
        assert losses[0] > 0
        torch.testing.assert_close(losses[0], losses[1])


def test_losses_equal_slow_loops(dataset: Dataset) -> None:
    system = untrained_system(dataset, "melt", "joint.user_weight=1", "joint.item_weight=1").eval()
    with torch.no_grad():
        system.item_branch.weight.add_(0.1)
        system.user_branch.weight.add_(0.1)
    batch = phase_of(system, dataset, "joint").steps(30)[0].branches
    actual = branch_losses(system, batch, frozen=True)

    def states(histories: PaddedBatch) -> torch.Tensor:
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
    torch.testing.assert_close(actual["users"].value, of_users)
    torch.testing.assert_close(actual["items"].value, of_items)


def test_the_item_loss_does_not_depend_on_the_scale_of_the_table(dataset: Dataset) -> None:
    system = untrained_system(dataset, "melt").eval()
    batch = phase_of(system, dataset, "joint").steps(30)[0].branches
    actual = []
    for size in (1.0, 0.01):
        with torch.no_grad():  # states of the first encoder, whatever the rows
            system.items.mul_(size)
            system.scale /= size
            system.item_branch.weight.copy_(size * torch.eye(16))
        actual.append(branch_losses(system, batch, frozen=True)["items"].value)
    assert actual[0] > 0
    torch.testing.assert_close(actual[0], actual[1])


def test_the_backbone_learns_from_the_branches_in_the_joint_phase_only(dataset: Dataset) -> None:
    system = untrained_system(dataset, "melt").train()
    batch = phase_of(system, dataset, "joint").steps(0)[0].branches
    for frozen in (True, False):
        system.zero_grad()
        losses = branch_losses(system, batch, frozen=frozen).values()
        torch.stack([part.value for part in losses]).sum().backward()
        touched = {
            name.split(".")[0] for name, p in system.named_parameters() if p.grad is not None
        }
        assert ("encoder" in touched) == (not frozen)
        assert {"user_branch", "item_branch"} <= touched


def test_the_item_branch_starts_as_the_best_linear_map(dataset: Dataset) -> None:
    system = untrained_system(dataset, "melt")
    phase = phase_of(system, dataset, "items branch")
    phase.steps(0)
    head = phase.head
    rows = system.items[head.items - 1]
    owner, contexts = head.contexts(head.items, head.item_threshold, None)
    batch = contexts.pad(system.max_len)
    with torch.no_grad():
        states = system.eval().plain_queries(batch.items, batch.lengths, system.items)
        means = torch.stack([states[owner == at].mean(0) for at in range(len(rows))])
        actual = system.item_branch(means)
        torch.testing.assert_close(system.context_means(head, head.items), means)
    left = (actual - rows).square().sum()
    assert left < 1.01 * (rows - rows.mean(0)).square().sum(), "no worse than the mean row"
    fitted = system.item_branch.weight.detach().clone()
    with torch.no_grad():
        system.item_branch.weight.mul_(2)
    phase.steps(0)
    assert torch.equal(system.item_branch.weight, 2 * fitted), "a resumed epoch fits nothing"


def test_blends_tail_rows_only(dataset: Dataset) -> None:
    system = untrained_system(dataset, "melt")
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


@pytest.mark.parametrize("size", [2, 3])
def test_the_losses_of_shares_add_up_to_the_loss_of_the_batch(dataset: Dataset, size: int) -> None:
    system = untrained_system(dataset, "melt").eval()
    phase = phase_of(system, dataset, "joint")
    for batch in (phase.steps(30)[step] for step in range(len(phase.steps(30)))):
        if len(batch) < size:
            continue
        shares = [batch.share(rows_of_process(len(batch), rank, size)) for rank in range(size)]
        losses = [phase.loss(share) for share in shares]
        for name, whole in phase.loss(batch).items():
            assert whole.count == sum(loss[name].count for loss in losses)
            total = sum(loss[name].value * loss[name].count for loss in losses)
            torch.testing.assert_close(total / max(1, whole.count), whole.value)
