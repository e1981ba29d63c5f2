"""Compares a data set in parts with the one that a single process makes."""

from __future__ import annotations

import torch

from seqloom.data.store import Dataset


def assert_equal(made: Dataset, expected: Dataset) -> None:
    """Compares everything but the record of the sources."""
    assert made.fingerprint == expected.fingerprint
    assert made.manifest.training == expected.manifest.training
    assert made.items.equals(expected.items)
    assert made.user_ids == expected.user_ids
    for name, tensor in expected.events.tensors().items():
        assert torch.equal(made.events.tensors()[name], tensor), name
        assert made.events.tensors()[name].dtype == tensor.dtype
    assert made.manifest.statistics == expected.manifest.statistics
    counted = [{(w["kind"], w["count"]): 0 for w in d.manifest.warnings} for d in (made, expected)]
    assert list(counted[0]) == list(counted[1])
    assert made.training_hash == expected.training_hash == made.manifest.training
