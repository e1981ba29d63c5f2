"""Computes the memory and the disk space of a training, part by part."""

from __future__ import annotations

from typing import Any, Self

import pyarrow.parquet as pq
import torch

from seqloom.core.config import Config
from seqloom.core.cost import FLOAT_BYTES
from seqloom.core.device import rss_bytes
from seqloom.data.store import Dataset
from seqloom.nn.linear import kernel_bytes
from seqloom.pipelines.estimate.workload import Workload
from seqloom.systems.base import System

MIB = 2**20
_NUMBER_BYTES = 8
LOADED_LATER = 60 * MIB
"""Loaded by training and not by `plan`: the writer of event files, the optimiser."""
FRAGMENTS = 1.35
"""Tensors of changing sizes leave gaps in a heap that keeps freed memory."""
_ROW_ARRAYS = 10
"""Arrays with one number for each row: where rows begin and end, their users, their order."""


class Memory(Config):
    """Peak memory of the process, MiB, and its parts."""

    peak_mb: float
    libraries_mb: float
    """The process without data: the interpreter, its libraries, and kernels that are compiled at run time."""
    data_mb: float
    """Histories, rows, and the text embeddings that are read."""
    weights_mb: float
    """Weights, gradients, both moments, the mean of the weights; on a GPU also a language model."""
    step_mb: float
    """The largest of a training step, a validation batch and the writing of a checkpoint."""

    @classmethod
    def of(cls, libraries: float, data: float, weights: float, step: float) -> Self:
        """Builds it from parts in bytes; the peak is their sum."""
        parts = {
            "libraries_mb": libraries,
            "data_mb": data,
            "weights_mb": weights,
            "step_mb": step,
        }
        shown = {name: round(value / MIB, 1) for name, value in parts.items()}
        return cls(peak_mb=round(sum(shown.values()), 1), **shown)


class Disk(Config):
    """Disk space of a run, MiB."""

    training_mb: float
    """The most during training: checkpoints of weights, moments and mean; the best weights."""
    run_mb: float
    """After training."""


def weights_bytes(model: System[Any], parameters: int, *, averages: bool) -> int:
    """Returns the bytes of weights, gradients, moments, the mean of the weights, and frozen tensors."""
    return (4 + averages) * FLOAT_BYTES * parameters + frozen_bytes(model)


def frozen_bytes(model: System[Any]) -> int:
    """Returns the bytes of tensors that are not trained."""
    held = [*model.buffers(), *(p for p in model.parameters() if not p.requires_grad)]
    return sum(tensor.numel() * tensor.element_size() for tensor in held)


def memory_of(work: Workload, device: torch.device) -> Memory:
    """Returns the memory on `device`; a GPU holds neither libraries nor data."""
    weights = weights_bytes(work.model, work.parameters, averages=work.averages)
    own = FLOAT_BYTES * work.parameters  # a copy of them while the mean is validated
    saved = 2 * FLOAT_BYTES * work.parameters  # both moments as bytes while they are written
    step = max(work.epoch().held, work.validation().held + own)
    if device.type != "cpu":
        return Memory.of(0, 0, weights + work.costs.shared_bytes(), step)
    data = work.dataset
    events, users = data.num_events, len(data.events.offsets) - 1
    mapped = data.events.items.element_size() * events + 4 * _NUMBER_BYTES * users
    rows = _ROW_ARRAYS * _NUMBER_BYTES * len(work.row_lengths) + _NUMBER_BYTES * data.num_items
    most = max(FRAGMENTS * step, saved)
    libraries = rss_bytes() + LOADED_LATER + kernel_bytes()
    return Memory.of(libraries, mapped + rows + frozen_bytes(work.model), weights, most)


def disk_of(model: System[Any], data: Dataset, parameters: int, *, averages: bool) -> Disk:
    """Returns the disk space of a run; checkpoints are deleted when it is complete."""
    weights = FLOAT_BYTES * parameters
    catalogue = sum(
        column.total_compressed_size
        for group in _groups(pq.read_metadata(data.path / "items.parquet"))
        for column in group
    )
    counts = _NUMBER_BYTES * data.num_items
    stored = model.saved_state().values()
    run = sum(each.numel() * each.element_size() for each in stored) + catalogue + counts
    last = (3 + averages) * weights
    # A checkpoint is complete before the previous one is deleted.
    training = catalogue + counts + 2 * last + 2 * weights
    return Disk(training_mb=round(training / MIB, 1), run_mb=round(run / MIB, 1))


def _groups(metadata: pq.FileMetaData) -> list[list[pq.ColumnChunkMetaData]]:
    return [
        [metadata.row_group(g).column(c) for c in range(metadata.num_columns)]
        for g in range(metadata.num_row_groups)
    ]
