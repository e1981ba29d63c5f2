"""`plan`: what a training will take, told before it begins."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from seqloom.core.config import Config
from seqloom.core.cost import DeclaresCost, Rates
from seqloom.core.device import available_memory, resolve_device, rss_bytes
from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT
from seqloom.data.store import Dataset
from seqloom.nn.losses import chunk_rows
from seqloom.runs.beginning import sizes_of
from seqloom.runs.calibration import measure_rates
from seqloom.runs.footprint import MIB, Disk, Memory, disk_of, memory_of
from seqloom.runs.ids import id_size
from seqloom.runs.workload import InBatches, Workload
from seqloom.systems.registry import names, system_class

_SMALLEST_BATCH = 8
_FILLED = 0.95
"""Share of the free memory that a plan may fill."""


class TrainingPlan(Config):
    """What `plan` says."""

    system: str
    dataset: str
    """The data set's folder."""
    device: str
    threads: int
    parameters: int
    """Numbers that are trained."""
    batch_size: int
    """As configured; where it is not, the default one or the largest half of it that fits."""
    loss_chunk: int
    """Targets whose logits are held at once; chosen by `train` itself in the same way."""
    set: list[str]
    """What to give `train` with --set beside what was given to `plan`."""
    steps_per_epoch: int
    targets_per_epoch: int
    seconds_per_epoch: float
    """Training, without validation."""
    seconds_per_validation: float
    most_epochs: int
    """As configured; early stopping usually ends sooner."""
    memory: Memory
    memory_free_mb: float
    disk: Disk
    disk_free_mb: float
    gflop_per_s: float
    """Matrix products of the softmax on this machine, measured now."""


def plan(
    dataset: Dataset | str | Path,
    system: str,
    *,
    config: Mapping[str, Any] | None = None,
    device: str = "auto",
    memory_gib: float | None = None,
    out: str | Path = ".",
    rates: Rates | None = None,
) -> TrainingPlan:
    """Predict the peak memory, the time of an epoch and the disk space of training `system`.

    Nothing is trained: the system declares its costs, and the machine's rates are measured in about
    a second. Where `config` names no `batch_size`, the default one is halved until it fits.

    Args:
        memory_gib: memory to plan for; what is free now by default.
        out: where the run is to be written, for the space that is free there.
        rates: measured before; measured now by default.

    Raises:
        ConfigError: the system or its configuration is unknown, it declares no costs, or the
            training does not fit; the message has the numbers.
        ArtefactError: the data set or the text embedding is not there.
    """
    dataset = (dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)).warm
    place = resolve_device(device)
    free = available_memory(place) if memory_gib is None else int(memory_gib * 2**30)
    if place.type == "cpu" and memory_gib is None:
        free += rss_bytes()  # this process is counted in the plan
    work, memory = _fitting(dataset, system, dict(config or {}), place, free)
    disk, disk_free = disk_of(work), _free_disk(Path(out))
    if disk.training_mb * MIB > disk_free:
        raise ConfigError(
            f"training {system} takes {disk.training_mb:,.0f} MiB of disk for checkpoints, and "
            f"{disk_free / MIB:,.0f} MiB are free at {out}; choose another place with --out"
        )
    width = work.counted.score_width()
    rates = rates or measure_rates(dataset.num_items, width, place)
    batch_size = work.config.batch_size
    return TrainingPlan(
        system=system,
        dataset=str(dataset.path),
        device=str(place),
        threads=torch.get_num_threads(),
        parameters=work.parameters,
        batch_size=batch_size,
        loss_chunk=min(chunk_rows(dataset.num_items, place), work.most_targets),
        set=[] if _says(config, batch_size) else [f"batch_size={batch_size}"],
        steps_per_epoch=work.steps,
        targets_per_epoch=work.targets,
        seconds_per_epoch=round(rates.seconds(work.epoch()), 3),
        seconds_per_validation=round(rates.seconds(work.validation()), 3),
        most_epochs=work.config.optimisation().epochs,
        memory=memory,
        memory_free_mb=round(free / MIB, 1),
        disk=disk,
        disk_free_mb=round(disk_free / MIB, 1),
        gflop_per_s=round(1e-9 / rates.products, 1),
    )


def _says(config: Mapping[str, Any] | None, batch_size: int) -> bool:
    return (config or {}).get("batch_size") == batch_size


def _fitting(
    dataset: Dataset, system: str, values: dict[str, Any], device: torch.device, free: int
) -> tuple[Workload, Memory]:
    """The configuration with the largest batch that fits, and its memory.

    Raises:
        ConfigError: none fits.
    """
    work = _workload(dataset, system, values)
    memory = wanted = memory_of(work, device)
    while memory.peak_mb * MIB > _FILLED * free and work.config.batch_size > _SMALLEST_BATCH:
        smaller = values | {"batch_size": max(_SMALLEST_BATCH, work.config.batch_size // 2)}
        work = _workload(dataset, system, smaller)
        memory = memory_of(work, device)
    fits = memory.peak_mb * MIB <= _FILLED * free
    asked = values.get("batch_size", work.config.batch_size)
    if fits and asked == work.config.batch_size:
        return work, memory
    parts = ", ".join(
        f"{name.removesuffix('_mb')} {value:,.0f}"
        for name, value in wanted.model_dump().items()
        if name != "peak_mb"
    )
    way = (
        f"batch_size {work.config.batch_size} takes {memory.peak_mb:,.0f} MiB"
        if fits
        else "no batch_size is small enough: take a smaller model, or sample the loss "
        "(loss.kind=sampled-softmax)"
    )
    raise ConfigError(
        f"training {system} takes {wanted.peak_mb:,.0f} MiB of memory ({parts}), and "
        f"{_FILLED * free / MIB:,.0f} MiB may be filled; {way}"
    )


def _workload(dataset: Dataset, system: str, values: Mapping[str, Any]) -> Workload:
    cls = system_class(system)
    config = cls.config_class.build(values)
    if not issubclass(cls, DeclaresCost) or not isinstance(config, InBatches):
        able = [name for name in names() if issubclass(system_class(name), DeclaresCost)]
        raise ConfigError(
            f"{system} declares no costs, so it cannot be planned; the systems that do: "
            f"{', '.join(able)}"
        )
    sizes = sizes_of(dataset, cls, config)
    if cls.uses_ids:
        width = id_size(dataset, getattr(config, "ids"))  # noqa: B009
        sizes = sizes.model_copy(update={"id_size": width})
    shared = cls.load_shared(config, SILENT)
    with torch.device("meta"):  # shapes alone: a table of any size takes no memory
        model = cls(config, sizes)
    del shared  # the model holds it
    work = Workload(dataset, model, model, config)
    if not len(work.row_lengths):
        raise ConfigError(f"{dataset.path} has no history with two training events to train on")
    return work


def _free_disk(out: Path) -> int:
    """Bytes free where `out` is, or will be."""
    there = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.exists())
    return shutil.disk_usage(there).free
