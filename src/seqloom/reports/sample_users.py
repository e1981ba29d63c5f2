"""Draws sample users for a report: history, target and the recommendations of each system."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.core.random import generator
from seqloom.data.store import Dataset, HeldOut
from seqloom.data.tie_keys import tie_keys
from seqloom.reports.data import SampleUser, ShownItem


def sample_users(
    dataset: Dataset,
    held_out: HeldOut,
    lists: Mapping[str, Tensor],
    ranks: Mapping[str, Tensor] | None = None,
    *,
    count: int = 5,
    length: int = 10,
    seed: int = 0,
    title_column: str = "title",
) -> list[SampleUser]:
    """Draws `count` rows at random; the users' ids decide, never a system's performance.

    Titles come from `title_column` of the items; if there is no such column or a title is empty, the item
    id is used.

    Raises:
        ConfigError: the number of rows of a system's lists or ranks differs from that of `held_out`.

    Shapes: held_out has R rows; each list [R, K] int64, each rank [R] int64.
    """
    total = len(held_out.users)
    for name, rows in [*lists.items(), *(ranks or {}).items()]:
        if len(rows) != total:
            raise ConfigError(f"{name!r} has {len(rows)} rows, but {total} users are held out")
    rows_drawn = draw_users(dataset, held_out.users, count, seed, "sample users")
    titles = _titles(dataset, title_column)

    def show(items: Tensor) -> list[ShownItem]:
        return [
            ShownItem(
                item_id=dataset.item_ids[n - 1], title=titles[n - 1] or dataset.item_ids[n - 1]
            )
            for n in items.tolist()
            if n > 0
        ]

    return [
        SampleUser(
            user_id=dataset.user_ids[int(held_out.users[row])],
            history=show(held_out.histories.select(row[None]).tail(length).flat()[1]),
            history_length=int(held_out.histories.lengths[row]),
            target=show(held_out.targets[row][None])[0],
            recommendations={name: show(rows[row, :length]) for name, rows in lists.items()},
            ranks={name: int(values[row]) for name, values in (ranks or {}).items()},
        )
        for row in rows_drawn
    ]


def draw_users(dataset: Dataset, users: Tensor, count: int, seed: int, what: str) -> Tensor:
    """Draws `count` positions of users in random order; the users' ids decide, not their order.

    Shapes: users [R] -> [count] int64.
    """
    by_id = tie_keys([dataset.user_ids[user] for user in users.tolist()]).argsort()
    return by_id[torch.randperm(len(users), generator=generator(seed, what))[:count]]


def _titles(dataset: Dataset, column: str) -> list[str | None]:
    if column not in dataset.items.column_names:
        return list(dataset.item_ids)
    return dataset.items.column(column).to_pylist()
