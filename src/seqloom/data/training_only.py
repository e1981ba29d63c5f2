"""A data set without its held-out events."""

from __future__ import annotations

import torch

from seqloom.data.events import Events
from seqloom.data.store import Dataset


def training_only(dataset: Dataset) -> Dataset:
    """Returns the data set without its held-out events; users and items keep their numbers.

    An artefact made from it cannot depend on a held-out event; the audit makes artefacts from it again.
    """
    train = dataset.train
    ends = train.lengths.cumsum(0)
    absent = torch.full_like(ends, -1)
    events = Events(
        items=train.flat()[1].int(),
        offsets=torch.cat([ends.new_zeros(1), ends]),
        train_end=ends,
        valid=absent,
        test=absent,
    )
    return Dataset(dataset.path, dataset.manifest, events, dataset.num_items)
