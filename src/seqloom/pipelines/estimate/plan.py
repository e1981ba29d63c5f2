"""`plan`: predicts the memory, time and disk space of a training."""

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
from seqloom.core.keywords import public_function
from seqloom.core.progress import SILENT
from seqloom.data.store import Dataset
from seqloom.nn.losses import chunk_rows
from seqloom.pipelines.estimate.calibration import measure_rates
from seqloom.pipelines.estimate.costs import costs_of, has_costs
from seqloom.pipelines.estimate.footprint import MIB, Disk, Memory, disk_of, memory_of
from seqloom.pipelines.estimate.trial import OutOfMemoryError, PlannedPhase, try_system
from seqloom.pipelines.estimate.workload import HasBatchSize, TrainsInBatches, Workload
from seqloom.pipelines.train.item_vectors import sizes_with_ids
from seqloom.systems.base import System
from seqloom.systems.registry import config_key_hint, system_class

_SMALLEST_BATCH = 8
_OF_PHASE = {"steps_per_epoch", "targets_per_epoch", "seconds_per_epoch", "most_epochs"}
_FILLED = 0.95
"""Share of the free memory that a training may use."""


class TrainingPlan(Config):
    """The result of `plan`."""

    system: str
    dataset: str
    """The data set's folder."""
    how: Literal["counted", "tried"]
    """Counted from the costs that the system declares, or measured on a few discarded steps."""
    device: str
    threads: int
    parameters: int
    """Trained parameters."""
    batch_size: int | None
    """As configured; otherwise the default, halved until it fits."""
    loss_chunk: int | None
    """Targets whose logits are in memory together, as `train` chooses it. None if steps were tried."""
    set: list[str]
    """Further `--set` options for `train`, beside those given to `plan`."""
    phases: list[PlannedPhase]
    """In order. The next four fields describe the phase that may take longest."""
    steps_per_epoch: int
    targets_per_epoch: int
    seconds_per_epoch: float
    """Training, without validation."""
    most_epochs: int
    """As configured; early stopping usually ends sooner."""
    seconds_per_validation: float
    seconds_before: float
    """Preparation before the steps: idgenrec names all items in each round."""
    seconds_at_most: float
    """The whole training, if no phase stops early."""
    memory: Memory
    memory_free_mb: float
    disk: Disk
    disk_free_mb: float
    gflop_per_s: float | None
    """Speed of the softmax's matrix products on this machine; None if steps were tried."""


@dataclass(frozen=True)
class _Estimate:
    """The cost of a training, counted or measured."""

    how: Literal["counted", "tried"]
    model: System[Any]
    parameters: int
    averages: bool
    phases: list[PlannedPhase]
    seconds_per_validation: float
    memory: Memory
    batch_size: int | None
    """The size that fits; None if the system has no batches."""
    seconds_before: float = 0.0
    loss_chunk: int | None = None
    gflop_per_s: float | None = None

    @property
    def longest_phase(self) -> PlannedPhase:
        """The phase that may take longest."""
        return max(self.phases, key=lambda phase: phase.seconds_per_epoch * phase.most_epochs)

    @property
    def seconds_at_most(self) -> float:
        """Seconds of the whole training, if no phase stops early."""
        return self.seconds_before + sum(
            phase.seconds_per_epoch * phase.most_epochs
            + self.seconds_per_validation * phase.validations
            for phase in self.phases
        )


@public_function(hint=config_key_hint)
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
    """Predicts the peak memory, the time of an epoch and the disk space of training `system`.

    Trains nothing. If the system declares its costs, they are counted and the machine's rates measured in
    about a second; otherwise a few steps are tried and their result is discarded. If `config` sets no
    `batch_size`, the default is halved until it fits.

    Args:
        memory_gib: memory to plan for; by default the free memory.
        out: where the run will be written, to read the free disk space.
        rates: rates of the machine; measured by default.

    Raises:
        ConfigError: the system or its configuration is unknown, it trains nothing, or the
            training does not fit; the message has the numbers.
        ArtefactError: the data set or the text embedding is missing.
    """
    dataset = (dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)).warm
    place = resolve_device(device)
    free = available_memory(place) if memory_gib is None else int(memory_gib * 2**30)
    if place.type == "cpu" and memory_gib is None:
        free += rss_bytes()  # this process is counted in the plan
    values = dict(config or {})
    cls = system_class(system)
    if has_costs(system, cls.config_class.build(values)):
        estimate = _count(dataset, system, values, place, free, rates)
    else:
        estimate = _try(dataset, cls, values, place, free)
    disk = disk_of(estimate.model, dataset, estimate.parameters, averages=estimate.averages)
    disk_free = _check_disk(Path(out), disk.training_mb, system)
    size = estimate.batch_size
    return TrainingPlan(
        system=system,
        dataset=str(dataset.path),
        how=estimate.how,
        device=str(place),
        threads=torch.get_num_threads(),
        parameters=estimate.parameters,
        batch_size=size,
        loss_chunk=estimate.loss_chunk,
        set=[] if size in (None, values.get("batch_size")) else [f"batch_size={size}"],
        phases=estimate.phases,
        **estimate.longest_phase.model_dump(include=_OF_PHASE),
        seconds_per_validation=estimate.seconds_per_validation,
        seconds_before=estimate.seconds_before,
        seconds_at_most=round(estimate.seconds_at_most, 3),
        memory=estimate.memory,
        memory_free_mb=round(free / MIB, 1),
        disk=disk,
        disk_free_mb=round(disk_free / MIB, 1),
        gflop_per_s=estimate.gflop_per_s,
    )


def _count(
    dataset: Dataset,
    system: str,
    values: dict[str, Any],
    device: torch.device,
    free: int,
    rates: Rates | None,
) -> _Estimate:
    """Counts declared costs at the batch size that fits."""
    work, memory = _fit_batch(dataset, system, values, device, free)
    rates = rates or measure_rates(dataset.num_items, work.costs.score_width(), device)
    settings = work.config.optimisation()
    phase = PlannedPhase(
        name="train",
        steps_per_epoch=work.steps,
        targets_per_epoch=work.targets,
        seconds_per_epoch=round(rates.seconds(work.epoch()), 3),
        most_epochs=settings.epochs,
        validations=settings.validations,
    )
    return _Estimate(
        how="counted",
        model=work.model,
        parameters=work.parameters,
        averages=work.averages,
        phases=[phase],
        seconds_per_validation=round(rates.seconds(work.validation()), 3),
        memory=memory,
        batch_size=work.config.batch_size,
        loss_chunk=min(chunk_rows(dataset.num_items, device), work.most_targets),
        gflop_per_s=round(1e-9 / rates.products, 1),
    )


def _try(
    dataset: Dataset,
    cls: type[System[Any]],
    values: dict[str, Any],
    device: torch.device,
    free: int,
) -> _Estimate:
    """Tries a few steps with the largest batch size that fits, if the system has batches.

    Raises:
        ConfigError: no batch size fits.
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
                    f"be used{'' if size is None else f', with batch_size {size}'}; use a smaller model "
                    "or a smaller batch_size"
                ) from error
            size = max(_SMALLEST_BATCH, size // 2)
            config = cls.config_class.build(values | {"batch_size": size})
        else:
            measured = {f.name: getattr(trial, f.name) for f in fields(trial)}
            return _Estimate("tried", batch_size=size, **measured)


def _fit_batch(
    dataset: Dataset, system: str, values: dict[str, Any], device: torch.device, free: int
) -> tuple[Workload, Memory]:
    """Finds the largest batch that fits; returns its workload and memory.

    Raises:
        ConfigError: no batch size fits.
    """
    work = _workload(dataset, system, values)
    memory = configured = memory_of(work, device)
    while memory.peak_mb * MIB > _FILLED * free and work.config.batch_size > _SMALLEST_BATCH:
        smaller = values | {"batch_size": max(_SMALLEST_BATCH, work.config.batch_size // 2)}
        work = _workload(dataset, system, smaller)
        memory = memory_of(work, device)
    fits = memory.peak_mb * MIB <= _FILLED * free
    requested = values.get("batch_size", work.config.batch_size)
    if fits and requested == work.config.batch_size:
        return work, memory
    parts = ", ".join(
        f"{name.removesuffix('_mb')} {value:,.0f}"
        for name, value in configured.model_dump().items()
        if name != "peak_mb"
    )
    remedy = (
        f"batch_size {work.config.batch_size} takes {memory.peak_mb:,.0f} MiB"
        if fits
        else "no batch_size is small enough: use a smaller model, or sample the loss "
        "(loss.kind=sampled-softmax)"
    )
    raise ConfigError(
        f"training {system} takes {configured.peak_mb:,.0f} MiB of memory ({parts}), and "
        f"{_FILLED * free / MIB:,.0f} MiB may be used; {remedy}"
    )


def _workload(dataset: Dataset, system: str, values: Mapping[str, Any]) -> Workload:
    cls = system_class(system)
    config = cls.config_class.build(values)
    assert isinstance(config, TrainsInBatches)
    sizes = sizes_with_ids(dataset, config)
    shared = cls.load_shared(config, SILENT)
    with torch.device("meta"):  # shapes alone: a table of any size takes no memory
        model = cls(config, sizes)
    del shared  # the model holds it
    work = Workload(dataset, model, costs_of(model), config)
    if not len(work.row_lengths):
        raise ConfigError(f"{dataset.path} has no history with two training events to train on")
    return work


def _free_disk(out: Path) -> int:
    """Returns the bytes that are free where `out` is or will be."""
    existing = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def _check_disk(out: Path, needed_mb: float, system: str) -> int:
    """Returns the bytes that are free at `out`; raises if they are too few."""
    free = _free_disk(out)
    if needed_mb * MIB > free:
        raise ConfigError(
            f"training {system} takes {needed_mb:,.0f} MiB of disk for checkpoints, and "
            f"{free / MIB:,.0f} MiB are free at {out}; choose another place with --out"
        )
    return free
