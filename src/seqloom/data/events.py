"""The interactions of a prepared data set as flat arrays."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

EVENT_ARRAYS = ("items", "offsets", "train_end", "valid", "test", "timestamps")


@dataclass(frozen=True)
class Events:
    """All interactions, user by user, oldest first, and where each user's split falls.

    `train_end[u]` is the position after user u's last training event; `valid[u]` and `test[u]` are
    the positions of the held-out events, or -1. The history for a held-out event is everything of
    that user before it. Positions count in the flat arrays.
    """

    items: Tensor
    """[events] int32, item numbers 1..N."""
    offsets: Tensor
    """[users + 1] int64: user u owns items[offsets[u]:offsets[u + 1]]."""
    train_end: Tensor
    """[users] int64."""
    valid: Tensor
    """[users] int64, -1 where the user has no validation event."""
    test: Tensor
    """[users] int64, -1 where the user has no test event."""
    timestamps: Tensor | None = None
    """[events] int64, seconds since 1970, or None where only the order is known."""

    def tensors(self) -> dict[str, Tensor]:
        """The arrays by name, as they are stored."""
        named = {k: getattr(self, k) for k in ("items", "offsets", "train_end", "valid", "test")}
        if self.timestamps is not None:
            named["timestamps"] = self.timestamps
        return {name: tensor.contiguous() for name, tensor in named.items()}
