"""Rows and batches of an epoch."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.data.batches import TrainingBatch, TrainingRows, plan_epoch, training_rows
from seqloom.data.sequences import PaddedBatch, Sequences


def targets_of(rows: TrainingRows) -> list[Any]:
    return [
        (int(user), int(item))
        for user, row in zip(rows.users, range(len(rows)), strict=True)
        for item in rows.items.select(torch.tensor([row])).flat()[1][1:]
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 17), min_size=1, max_size=8), st.integers(1, 5))
def test_windows_make_every_item_after_the_first_a_target_once(lengths: Any, max_len: Any) -> None:
    histories = [[100 * u + i + 1 for i in range(n)] for u, n in enumerate(lengths)]
    rows = training_rows(Sequences.from_lists(histories), max_len, "windows")
    expected = [(u, item) for u, h in enumerate(histories) for item in h[1:]]
    assert sorted(targets_of(rows)) == expected
    assert all(2 <= n <= max_len + 1 for n in rows.items.lengths.tolist())
    assert rows.users[rows.is_last].tolist() == [u for u, n in enumerate(lengths) if n >= 2]


def test_last_keeps_one_row_a_user() -> None:
    rows = training_rows(Sequences.from_lists([[1, 2, 3, 4, 5, 6], [7, 8]]), 2, "last")
    assert targets_of(rows) == [(0, 5), (0, 6), (1, 8)]
    assert rows.is_last.all()


def test_an_epoch_covers_all_rows_once_in_batches_of_like_length() -> None:
    histories = [[1] * (2 + n % 7) for n in range(100)]
    rows = training_rows(Sequences.from_lists(histories), 10, "windows")
    plan = plan_epoch(rows, 16, 42, "train", 0)
    assert sorted(torch.cat(plan.order).tolist()) == list(range(100))
    assert all(
        int(x.inputs.lengths.max() - x.inputs.lengths.min()) <= 2
        for x in map(plan.__getitem__, range(len(plan)))
    )


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    rows = training_rows(Sequences.from_lists([[1, 2, 3]] * 50), 5, "windows")
    first, again, other = (plan_epoch(rows, 8, 1, "train", e).order for e in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_targets_are_the_next_items() -> None:
    rows = training_rows(Sequences.from_lists([[5, 6, 7], [8, 9]]), 4, "windows")
    batch = plan_epoch(rows, 2, 0, "x")[0]
    at = batch.rows.tolist().index(0)
    assert batch.inputs.items[at].tolist() == [5, 6]
    assert batch.targets[at].tolist() == [6, 7]
    assert batch.inputs.items[1 - at].tolist() == [8, 0]
    assert batch.targets[1 - at].tolist() == [9, 0]
    assert batch.num_targets == 3
    assert batch.predicts_last.tolist() == [True, True]


def test_states_and_targets_are_taken_where_there_is_a_target() -> None:
    inputs = PaddedBatch(torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2]))
    targets = torch.tensor([[0, 7, 0], [8, 9, 0]])
    batch = TrainingBatch.of(inputs, targets, torch.tensor([0, 1])).to(torch.device("cpu"))
    states, actual = batch.at_targets(torch.arange(12.0).view(2, 3, 2))
    assert actual.tolist() == [7, 8, 9]
    assert states.tolist() == [[2, 3], [6, 7], [8, 9]]
    assert batch.num_targets == 3
    assert batch.predicts_last.tolist() == [False, True]


def test_batches_have_few_widths_and_none_beyond_the_longest_row() -> None:
    histories = [[1 + n % 9] * (2 + n) for n in range(35)]  # 2 to 36 items
    rows = training_rows(Sequences.from_lists(histories), 50, "windows")
    plan = plan_epoch(rows, 1, 0)
    batches = [plan[step] for step in range(len(plan))]
    wide = {batch.inputs.items.shape[1] + 1 for batch in batches}
    assert wide == {2, 3, 4, 5, 6, 7, 8, 16, 24, 32, 36}
    for batch in batches:
        length = int(batch.inputs.lengths)
        assert batch.num_targets == length
        assert not batch.inputs.items[:, length:].any()
        assert not batch.targets[:, length:].any()


def test_padded_batches_have_few_shapes_and_the_same_targets() -> None:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 30, (400,), generator=draw).tolist()
    histories = [(torch.randint(9, (n,), generator=draw) + 1).tolist() for n in lengths]
    rows = training_rows(Sequences.from_lists(histories), 20, "windows")
    plan = plan_epoch(rows, 32, 0)
    shapes, exact = set(), set()
    for step in range(len(plan)):
        batch = plan[step]
        padded = batch.padded()
        states = torch.randn(*batch.targets.shape, 3)
        hidden, targets = batch.at_targets(states)
        wide, found = padded.at_targets(states)
        assert torch.equal(wide[found > 0], hidden)
        assert torch.equal(found[found > 0], targets)
        assert len(found) <= batch.targets.numel()
        again = padded.with_tensors(padded.tensors())
        assert torch.equal(again.at_targets(states)[1], found)
        shapes.add((batch.targets.shape, padded.places.shape))
        exact.add((batch.targets.shape, batch.places.shape))
    assert len(shapes) < len(exact)
