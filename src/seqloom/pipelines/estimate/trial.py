"""Measures a training whose system declares no costs, on a few discarded steps of each phase."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.device import memory_limit, peak_rss_mb, reset_peak_rss, rss_bytes
from seqloom.core.errors import ConfigError
from seqloom.core.phase import Phase, Steps, count_targets
from seqloom.core.progress import SILENT
from seqloom.core.protocols import TakesItemVectors
from seqloom.data.store import Dataset
from seqloom.evaluation.ranking import rank_targets
from seqloom.pipelines.estimate.footprint import (
    FRAGMENTS,
    LOADED_LATER,
    MIB,
    Memory,
    weights_bytes,
)
from seqloom.pipelines.train.fit_run import start_system
from seqloom.pipelines.train.item_vectors import configured_item_vectors, sizes_with_ids
from seqloom.systems.base import Sizes, System, TrainingData
from seqloom.systems.base_config import SystemConfig
from seqloom.training.step import Stepper, on_device

_LOOKED_AT = 32
"""Batches of an epoch that are built to find a large one."""
_STEPS, _SECONDS = 8, 5.0
"""Most steps and seconds of the timing of a phase; at least two steps are timed."""
_RANKED = 512
"""Most users that are ranked."""


class PlannedPhase(Config):
    """The predicted time of one phase of training."""

    name: str
    steps_per_epoch: int
    targets_per_epoch: int
    seconds_per_epoch: float
    """Training, without validation."""
    most_epochs: int
    """As configured; early stopping usually ends sooner."""
    validations: int
    """At most."""


class OutOfMemoryError(Exception):
    """A step did not fit."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """The measurements of a trial."""

    model: System[Any]
    phases: list[PlannedPhase]
    seconds_before: float
    """Preparation before steps, over the whole training."""
    seconds_per_validation: float
    memory: Memory
    parameters: int
    averages: bool


def try_system(
    dataset: Dataset,
    cls: type[System[Any]],
    config: SystemConfig,
    device: torch.device,
    free: int,
) -> Trial:
    """Starts the system and takes a few steps of each of its phases. Writes nothing.

    Args:
        free: bytes that may be used beyond those of the process.

    Raises:
        ConfigError: the system trains nothing.
        OutOfMemoryError: a step takes more than `free`.
    """
    if cls.combines_runs:
        raise ConfigError(f"{cls.name} trains nothing: its weights are fitted in one step")
    before = rss_bytes()
    shared = cls.load_shared(config, SILENT)
    with torch.random.fork_rng(), _limit_memory(device, free):
        sizes = sizes_with_ids(dataset, config)
        data = _training_data(dataset, config, sizes)
        model = start_system(cls.name, config, sizes, data)
        model.to(device)
        seconds_before = model.rehearse()
        phases = model.phases(data)
        if not phases:
            raise ConfigError(f"{cls.name} trains nothing, so there is nothing to plan")
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        averages = any(phase.optimisation.averaging is not None for phase in phases)
        tried = [_try_phase(phase, device) for phase in phases]
        if not any(phase.steps_per_epoch for phase in tried):
            raise ConfigError(f"{cls.name} has nothing to train on in this data set")
        validation = _try_validation(model, dataset, device)
        peak = _peak_bytes(device)
    del shared
    weights = weights_bytes(model, parameters, averages=averages)
    libraries = before if device.type == "cpu" else 0
    # A trial keeps no mean of the weights, but everything else that training holds.
    tried_weights = weights_bytes(model, parameters, averages=False)
    step = max(0.0, peak - libraries - tried_weights)
    later = 0
    if device.type == "cpu":  # a few steps have few of the sizes of an epoch
        later, step = LOADED_LATER, FRAGMENTS * step
    return Trial(
        model=model,
        phases=tried,
        seconds_before=round(seconds_before, 3),
        seconds_per_validation=validation,
        memory=Memory.of(libraries + later, 0, weights, step),
        parameters=parameters,
        averages=averages,
    )


def _training_data(dataset: Dataset, config: SystemConfig, sizes: Sizes) -> TrainingData:
    """Returns the data of a training; item vectors that are yet to be trained are drawn."""
    if not isinstance(config, TakesItemVectors):
        return TrainingData(dataset)
    source = configured_item_vectors(dataset, config.item_vector_source)
    if source is None:
        return TrainingData(dataset, ids=torch.randn(sizes.num_items, sizes.id_size))
    return TrainingData(dataset, ids=source.vectors, giver=source.giver)


@contextmanager
def _limit_memory(device: torch.device, free: int) -> Iterator[None]:
    """Resets the measured peak and limits the memory to `free` more bytes within the block.

    Raises:
        OutOfMemoryError: the block needs more.
    """
    try:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            yield
        else:
            reset_peak_rss()
            with memory_limit(free):
                yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemoryError from error
    except RuntimeError as error:
        if "allocate memory" not in str(error) and "bad_alloc" not in str(error):
            raise
        raise OutOfMemoryError from error


def _peak_bytes(device: torch.device) -> float:
    """Returns the largest number of bytes in use."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return peak_rss_mb() * MIB


def _try_phase(phase: Phase, device: torch.device) -> PlannedPhase:
    """Takes the largest of some steps first, untimed, then times a few over the whole epoch."""
    phase.steps(0)
    started = time.perf_counter()
    steps = phase.steps(1)  # not the first epoch, which may prepare more
    preparation = time.perf_counter() - started
    settings = phase.optimisation
    validations = settings.validations if phase.validated else 0
    if not len(steps):  # the phase only validates candidates
        return PlannedPhase(
            name=phase.name,
            steps_per_epoch=0,
            targets_per_epoch=0,
            seconds_per_epoch=round(preparation, 3),
            most_epochs=settings.epochs,
            validations=validations,
        )
    stepper = Stepper.of(phase, device)
    phase.module.train()
    large = max(_sample_batches(steps, _LOOKED_AT), key=_count_numbers)
    _time_step(stepper, large)
    seconds, targets = [], []
    for batch in _sample_batches(steps, _STEPS):
        seconds.append(_time_step(stepper, batch))
        targets.append(count_targets(batch))
        if len(seconds) > 1 and sum(seconds) > _SECONDS:
            break
    stepper.optimiser.zero_grad(set_to_none=True)
    return PlannedPhase(
        name=phase.name,
        steps_per_epoch=len(steps),
        targets_per_epoch=round(statistics.fmean(targets) * len(steps)),
        seconds_per_epoch=round(preparation + statistics.fmean(seconds) * len(steps), 3),
        most_epochs=settings.epochs,
        validations=validations,
    )


def _try_validation(model: System[Any], dataset: Dataset, device: torch.device) -> float:
    """Estimates the seconds to rank all validation users from a sample of them."""
    held_out = dataset.held_out("valid")
    if not len(held_out.users):
        return 0.0
    started = time.perf_counter()
    scorer = model.scorer()
    preparation = time.perf_counter() - started
    by_length = held_out.histories.lengths.argsort(stable=True)
    sample = by_length[:: -(-len(by_length) // _RANKED)]
    started = time.perf_counter()
    rank_targets(
        scorer,
        held_out.select(sample),
        popularity=dataset.popularity[1:],
        max_len=model.max_len,
        device=device,
    )
    ranked = time.perf_counter() - started
    return round(preparation + ranked * len(by_length) / len(sample), 3)


def _time_step(stepper: Stepper, batch: Any) -> float:
    """Takes one step and returns its seconds."""
    started = time.perf_counter()
    parts = stepper(on_device(batch, stepper.device))
    float(parts["loss"].detach())  # waits for the device
    return time.perf_counter() - started


def _sample_batches(steps: Steps, most: int) -> Iterator[Any]:
    """Yields at most `most` batches at equal distances; their order in an epoch is random."""
    return (steps[step] for step in range(0, len(steps), -(-len(steps) // most)))


def _count_numbers(batch: Any) -> int:
    """Counts the numbers of a batch."""
    if isinstance(batch, Tensor):
        return batch.numel()
    if not dataclasses.is_dataclass(batch):
        return 0
    return sum(_count_numbers(getattr(batch, field.name)) for field in dataclasses.fields(batch))
