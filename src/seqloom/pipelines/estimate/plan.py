"""`plan`: what a training will take, told before it begins."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch

from seqloom.core.config import Config
from seqloom.core.cost import Rates
from seqloom.core.device import available_memory, resolve_device, rss_bytes
from seqloom.core.errors import ConfigError
from seqloom.core.progress import SILENT
from seqloom.core.protocols import TakesItemVectors
from seqloom.data.store import Dataset
from seqloom.nn.losses import chunk_rows
from seqloom.pipelines.estimate.calibration import measure_rates
from seqloom.pipelines.estimate.costs import costs_of, has_costs
from seqloom.pipelines.estimate.footprint import MIB, Disk, Memory, disk_of, memory_of
from seqloom.pipelines.estimate.trial import OutOfMemoryError, PlannedPhase, try_system
from seqloom.pipelines.estimate.workload import HasBatchSize, TrainsInBatches, Workload
from seqloom.pipelines.train.item_vectors import item_vector_size
from seqloom.pipelines.train.start_run import sizes_of
from seqloom.systems.base import System
from seqloom.systems.registry import system_class

_SMALLEST_BATCH = 8
_FILLED = 0.95
"""Share of the free memory that a plan may fill."""


class TrainingPlan(Config):
    """What `plan` says."""

    system: str
    dataset: str
    """The data set's folder."""
    how: Literal["counted", "tried"]
    """By the costs that the system declares, or by a few steps that were run and thrown away."""
    device: str
    threads: int
    parameters: int
    """Numbers that are trained."""
    batch_size: int | None
    """As configured; where it is not, the default one or the largest half of it that fits."""
    loss_chunk: int | None
    """Targets whose logits are held at once; chosen by `train` itself in the same way. None where tried."""
    set: list[str]
    """What to give `train` with --set beside what was given to `plan`."""
    phases: list[PlannedPhase]
    """In order. The four entries that follow are those of the phase that may take longest."""
    steps_per_epoch: int
    targets_per_epoch: int
    seconds_per_epoch: float
    """Training, without validation."""
    most_epochs: int
    """As configured; early stopping usually ends sooner."""
    seconds_per_validation: float
    seconds_before: float
    """What a system prepares before steps: the names that idgenrec gives all items, in all rounds."""
    seconds_at_most: float
    """All of it, if no phase stops early."""
    memory: Memory
    memory_free_mb: float
    disk: Disk
    disk_free_mb: float
    gflop_per_s: float | None
    """Matrix products of the softmax on this machine, measured now; None where steps were tried."""


@dataclass(frozen=True)
class _Found:
    """What is known of a training by either way."""

    how: Literal["counted", "tried"]
    model: System[Any]
    parameters: int
    averages: bool
    phases: list[PlannedPhase]
    seconds_per_validation: float
    memory: Memory
    seconds_before: float = 0.0
    loss_chunk: int | None = None
    gflop_per_s: float | None = None


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

    Nothing is trained. A system that declares its costs is counted, and the machine's rates are measured in
    about a second; of any other a few steps are tried and thrown away. Where `config` names no
    `batch_size`, the default one is halved until it fits.

    Args:
        memory_gib: memory to plan for; what is free now by default.
        out: where the run is to be written, for the space that is free there.
        rates: measured before; measured now by default.

    Raises:
        ConfigError: the system or its configuration is unknown, it trains nothing, or the
            training does not fit; the message has the numbers.
        ArtefactError: the data set or the text embedding is not there.
    """
    dataset = (dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)).warm
    place = resolve_device(device)
    free = available_memory(place) if memory_gib is None else int(memory_gib * 2**30)
    if place.type == "cpu" and memory_gib is None:
        free += rss_bytes()  # this process is counted in the plan
    cls, values = system_class(system), dict(config or {})
    batch_size: int | None
    if has_costs(system):
        found, batch_size = _counted(dataset, system, values, place, free, rates)
    else:
        found, batch_size = _tried(dataset, cls, values, place, free)
    disk = disk_of(found.model, dataset, found.parameters, averages=found.averages)
    disk_free = _free_disk(Path(out))
    if disk.training_mb * MIB > disk_free:
        raise ConfigError(
            f"training {system} takes {disk.training_mb:,.0f} MiB of disk for checkpoints, and "
            f"{disk_free / MIB:,.0f} MiB are free at {out}; choose another place with --out"
        )
    main = max(found.phases, key=lambda each: each.seconds_per_epoch * each.most_epochs)
    validated = found.seconds_per_validation
    at_most = sum(
        e.seconds_per_epoch * e.most_epochs + validated * e.validations for e in found.phases
    )
    chosen = batch_size is not None and values.get("batch_size") != batch_size
    return TrainingPlan(
        system=system,
        dataset=str(dataset.path),
        how=found.how,
        device=str(place),
        threads=torch.get_num_threads(),
        parameters=found.parameters,
        batch_size=batch_size,
        loss_chunk=found.loss_chunk,
        set=[f"batch_size={batch_size}"] if chosen else [],
        phases=found.phases,
        steps_per_epoch=main.steps_per_epoch,
        targets_per_epoch=main.targets_per_epoch,
        seconds_per_epoch=main.seconds_per_epoch,
        most_epochs=main.most_epochs,
        seconds_per_validation=validated,
        seconds_before=found.seconds_before,
        seconds_at_most=round(found.seconds_before + at_most, 3),
        memory=found.memory,
        memory_free_mb=round(free / MIB, 1),
        disk=disk,
        disk_free_mb=round(disk_free / MIB, 1),
        gflop_per_s=found.gflop_per_s,
    )


def _counted(
    dataset: Dataset,
    system: str,
    values: dict[str, Any],
    device: torch.device,
    free: int,
    rates: Rates | None,
) -> tuple[_Found, int]:
    """By declared costs; with the batch size that fits."""
    work, memory = _fitting(dataset, system, values, device, free)
    rates = rates or measure_rates(dataset.num_items, work.costs.score_width(), device)
    settings = work.config.optimisation()
    phase = PlannedPhase(
        name="train",
        steps_per_epoch=work.steps,
        targets_per_epoch=work.targets,
        seconds_per_epoch=round(rates.seconds(work.epoch()), 3),
        most_epochs=settings.epochs,
        validations=settings.epochs // settings.validate_every,
    )
    found = _Found(
        how="counted",
        model=work.model,
        parameters=work.parameters,
        averages=work.averages,
        phases=[phase],
        seconds_per_validation=round(rates.seconds(work.validation()), 3),
        memory=memory,
        loss_chunk=min(chunk_rows(dataset.num_items, device), work.most_targets),
        gflop_per_s=round(1e-9 / rates.products, 1),
    )
    return found, work.config.batch_size


def _tried(
    dataset: Dataset,
    cls: type[System[Any]],
    values: dict[str, Any],
    device: torch.device,
    free: int,
) -> tuple[_Found, int | None]:
    """By a trial; with the largest batch size that fits, where the system has one.

    Raises:
        ConfigError: none fits.
    """
    config = cls.config_class.build(values)
    size = config.batch_size if isinstance(config, HasBatchSize) else None
    room = int(_FILLED * free) - (rss_bytes() if device.type == "cpu" else 0)
    while True:
        try:
            trial = try_system(dataset, cls, config, device, room)
            if trial.memory.peak_mb * MIB > _FILLED * free:
                raise OutOfMemoryError
        except OutOfMemoryError as error:
            if size is None or "batch_size" in values or size <= _SMALLEST_BATCH:
                raise ConfigError(
                    f"a trial of {cls.name} needed more than the {_FILLED * free / MIB:,.0f} MiB that may "
                    f"be filled{'' if size is None else f', with batch_size {size}'}; take a smaller model "
                    "or a smaller batch_size"
                ) from error
            size = max(_SMALLEST_BATCH, size // 2)
            config = cls.config_class.build(values | {"batch_size": size})
        else:
            found = _Found("tried", **{f.name: getattr(trial, f.name) for f in fields(trial)})
            return found, size


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
    assert isinstance(config, TrainsInBatches)
    sizes = sizes_of(dataset, cls, config)
    if isinstance(config, TakesItemVectors):
        width = item_vector_size(dataset, config.item_vector_source)
        sizes = sizes.model_copy(update={"id_size": width})
    shared = cls.load_shared(config, SILENT)
    with torch.device("meta"):  # shapes alone: a table of any size takes no memory
        model = cls(config, sizes)
    del shared  # the model holds it
    work = Workload(dataset, model, costs_of(model), config)
    if not len(work.row_lengths):
        raise ConfigError(f"{dataset.path} has no history with two training events to train on")
    return work


def _free_disk(out: Path) -> int:
    """Bytes free where `out` is, or will be."""
    there = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.exists())
    return shutil.disk_usage(there).free
