from __future__ import annotations

from typing import Any

import torch

from seqloom.data.batches import TrainingRows
from seqloom.data.sequences import Sequences
from seqloom.systems.idgenrec.samples import Mixture, PrefixPlan, prefix_rows


def rows_of(rows: TrainingRows) -> list[list[Any]]:
    users, items = rows.items.flat()
    actual: list[list[Any]] = [[] for _ in range(len(rows))]
    for row, item in zip(users.tolist(), items.tolist(), strict=True):
        actual[row].append(item)
    return actual


def test_every_item_after_the_first_is_a_target_once() -> None:
    train = Sequences.from_lists([[1, 2, 3, 4], [5], [], [6, 7]])
    rows = prefix_rows(train, 2)
    assert rows_of(rows) == [[1, 2], [1, 2, 3], [2, 3, 4], [6, 7]]
    assert rows.users.tolist() == [0, 0, 0, 3]
    assert rows.is_last.tolist() == [False, False, True, True]


def test_a_plan_counts_one_target_a_row() -> None:
    rows = prefix_rows(Sequences.from_lists([[1, 2, 3, 4], [6, 7]]), 3)
    plan = PrefixPlan(Mixture(rows, [2], 1.0, 0).epoch("p", 0, 2))
    batches = [plan[step] for step in range(len(plan))]
    assert sum(batch.num_targets for batch in batches) == 4


def mixture(temperature: float) -> Mixture:
    """90 rows of one data set, 10 of another."""
    lists = [[1, 2]] * 90 + [[3, 4]] * 10
    return Mixture(prefix_rows(Sequences.from_lists(lists), 5), [90, 10], temperature, 7)


def drawn(temperature: float, epoch: int = 0) -> torch.Tensor:
    plan = mixture(temperature).epoch("p", epoch, 16)
    users = torch.cat([plan.rows.users[rows] for rows in plan.order])
    return users.sort().values


def test_without_temperature_every_row_comes_once() -> None:
    assert drawn(1.0).tolist() == list(range(100))


def test_temperature_evens_the_data_sets_out() -> None:
    counts = [int((drawn(t) >= 90).sum()) for t in (1.0, 2.0, 1000.0)]
    assert counts == [10, 25, 50]
    # No row of the small one comes a third time before all came twice.
    times = torch.bincount(drawn(2.0), minlength=100)[90:]
    assert times.min() == 2
    assert times.max() == 3


def test_epochs_draw_differently_and_the_same_epoch_equally() -> None:
    assert torch.equal(drawn(2.0), drawn(2.0))
    assert not torch.equal(drawn(2.0), drawn(2.0, epoch=1))


def test_every_row_comes_with_as_many_prompts_as_requested() -> None:
    rows = prefix_rows(Sequences.from_lists([[1, 2, 3], [6, 7]]), 5)
    plan = Mixture(rows, [2], 1.0, 0, times=3).epoch("p", 0, 2)
    drawn = [rows_of(plan.rows)[row] for rows in plan.order for row in rows.tolist()]
    assert sorted(drawn) == sorted([[1, 2], [1, 2, 3], [6, 7]] * 3)
