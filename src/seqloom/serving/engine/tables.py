"""Tables that grow while they are read."""

from __future__ import annotations

import torch
from torch import Tensor

_ROOM = 1024


class GrowingTable:
    """A table with room behind its last row. Rows that were returned are never written to again.

    `start` [N, ...] are the first rows. They are copied at the first `put`.
    """

    def __init__(self, start: Tensor) -> None:
        self._rows = start

    def first(self, count: int) -> Tensor:
        """Returns the first rows. Shapes: -> [count, ...]."""
        return self._rows[:count]

    def put(self, at: int, rows: Tensor) -> Tensor:
        """Writes `rows` at row `at`, behind all that were returned. Shapes: [M, ...] -> [at + M, ...]."""
        end = at + len(rows)
        with torch.inference_mode():
            if len(self._rows) < end:
                held = self._rows[:at]
                self._rows = held.new_empty((end + max(_ROOM, end // 8), *held.shape[1:]))
                self._rows[:at] = held
            self._rows[at:end] = rows
        return self._rows[:end]
