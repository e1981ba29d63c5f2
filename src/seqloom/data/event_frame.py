"""The events of a prepared data set as a polars frame, with ids and parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

if TYPE_CHECKING:
    from seqloom.data.events import Events


def event_frame(events: Events, user_ids: list[str], item_ids: list[str]) -> pl.DataFrame:
    """Builds one row an event: `user_id`, `item_id`, `timestamp` where known, `part`."""
    lengths = events.offsets.diff()
    users = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    columns = {
        "user_id": pl.Series(user_ids, dtype=pl.String).gather(users.numpy()),
        "item_id": pl.Series(item_ids, dtype=pl.String).gather(events.items.numpy() - 1),
    }
    if events.timestamps is not None:
        columns["timestamp"] = pl.Series(events.timestamps.numpy())
    place = torch.arange(len(events.items))
    part = np.where(place < events.train_end[users], "train", "unused")
    for name in ("valid", "test"):
        at = getattr(events, name)
        part[at[at >= 0].numpy()] = name
    return pl.DataFrame({**columns, "part": part})
