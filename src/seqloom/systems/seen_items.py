"""The seen items of each user, which may not be negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from seqloom.core.errors import ConfigError
from seqloom.data.batches import TrainingBatch
from seqloom.data.sequences import Sequences


class SeenItems:
    """The distinct items of every user's training part, sorted."""

    def __init__(self, train: Sequences, users: Tensor, num_items: int) -> None:
        """`users` are the users of the training rows.

        Raises:
            ConfigError: one of them has all items.
        """
        owner, items = train.flat()
        pairs = torch.unique(owner * num_items + items.long() - 1)
        self._items = pairs % num_items
        counts = torch.bincount(pairs // num_items, minlength=len(train))
        self._starts = counts.cumsum(0) - counts
        self._counts = counts
        self._users = users
        self._num_items = num_items
        if len(users) and int(counts[users].max()) == num_items:
            raise ConfigError(
                f"a user has all {num_items} items in the training part, so no item is left as a negative; "
                "set loss.seen_negatives=true, or choose loss.kind=softmax"
            )

    def of(self, batch: TrainingBatch) -> Tensor:
        """Returns the item-table rows that the user of each target has seen, padded with N.

        Shapes: -> [M, S].
        """
        users = self._users[batch.rows]
        counts = self._counts[users]
        place = torch.arange(int(counts.max()) if len(counts) else 0)
        at = (self._starts[users, None] + place).clamp(max=max(0, len(self._items) - 1))
        seen = torch.where(place < counts[:, None], self._items[at], self._num_items)  # [B, S]
        return seen.to(batch.places.device)[batch.places // batch.targets.shape[1]]
