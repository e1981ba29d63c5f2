"""The training loop: phases, mixed precision, early stopping, checkpoints, exact resumption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from seqloom.core.errors import TrainingError
from seqloom.core.phase import Optimisation, Phase, count_targets
from seqloom.core.progress import SILENT, Progress, Task
from seqloom.core.random import derive_seed
from seqloom.distributed.processes import ALONE, Processes
from seqloom.nn.graphs import Recorder
from seqloom.training.averaging import WeightAverage
from seqloom.training.checkpoint import Checkpoints, Choice, Position
from seqloom.training.log import RunLog
from seqloom.training.replay import StepTaker
from seqloom.training.step import Precision, Stepper

Validate = Callable[[], dict[str, float]]
_STEPS_BETWEEN_AVERAGES = 8
_NOTHING_VALIDATED: dict[str, Any] = {
    "best_value": None,
    "best_phase": None,
    "best_epoch": None,
    "best_metrics": {},
}


@dataclass
class Trainer:
    """Runs the phases of one system.

    The random state of a step depends on (seed, phase, epoch, step) alone and checkpoints hold everything
    else, so a run that was killed and resumed ends with the same bits as an uninterrupted one (on a CPU).

    Several processes run this program on their shares of every batch. They make the same decisions,
    because losses, gradients and metrics are those of the whole batch.
    """

    model: nn.Module
    """The whole system, which is saved; the phases train parts of it."""
    phases: Sequence[Phase]
    validate: Validate
    """Returns the metrics of the present weights on the validation part."""
    seed: int
    device: torch.device
    checkpoints: Checkpoints
    log: RunLog
    precision: Precision = "auto"
    checkpoint_every_s: float = 60.0
    """Seconds between checkpoints within an epoch; every epoch ends with one."""
    progress: Progress = SILENT
    processes: Processes = ALONE
    position: Position = field(default_factory=Position)
    recorder: Recorder | None = None
    """What records steps of repeated shapes; by default CUDA graphs on a CUDA device."""

    def fit(self, *, resume: bool = False) -> Position:
        """Trains all phases and leaves the best weights in the model.

        Each phase starts from the best weights of the previous one, or of all before it
        (`Optimisation.undone_unless_best`). The training ends with the best
        weights of all competing phases (`Optimisation.chosen_among`), which the position names.

        Raises:
            TrainingError: a loss is not finite; the message names phase, epoch and step.
            ArtefactError: `resume` is set, and the checkpoint is damaged or of another model.
        """
        resumed = resume and self._restore()
        self.log.restart(self.position.history)
        with torch.random.fork_rng(devices=self._random_devices()):
            for number in range(self.position.phase, len(self.phases)):
                self._run_phase(number, self.phases[number], restore=resumed)
                resumed = False
        self._choose()
        self.log.close()
        return self.position

    def _restore(self) -> bool:
        """Loads position and weights of the last checkpoint, if any; returns whether there was one."""

        def last() -> str:
            if not self.checkpoints.has_last():
                return ""
            return self.checkpoints.read_position().model_dump_json()

        position = self.processes.run_on_first(last)
        if not position:
            return False
        self.position = Position.model_validate_json(position)
        self.checkpoints.restore_model(self.model)
        at, phase = self.position, self.phases[self.position.phase].name
        step = f", step {at.step:,}" if at.step else ""
        self.progress.note(f"resume: phase {phase}, {at.epoch} epochs complete{step}")
        return True

    def _run_phase(self, number: int, phase: Phase, *, restore: bool) -> None:
        settings = phase.optimisation
        if not restore:
            self._move(phase=number, epoch=0, step=0, stale=0, **_NOTHING_VALIDATED)
            if settings.chosen_among == "phase":
                self._move(choice=None)
        stepper = Stepper.of(phase, self.device, self.precision, self.processes)
        take = StepTaker(stepper, self.recorder, self.progress.note)
        average = WeightAverage.build(phase.module, settings.averaging)
        if restore:
            self.checkpoints.restore_optimiser(self.model, stepper.optimiser)
            if average is not None:
                average.restore(self.checkpoints.read_average())
        while self.position.epoch < settings.epochs and not self._out_of_patience(phase):
            self._run_epoch(stepper, take, average)
            with average.in_use() if average is not None else nullcontext():
                self._end_epoch(phase)
            self.checkpoints.save_last(self.model, stepper.optimiser, self.position, average)
            choice = self.position.choice
            self.checkpoints.keep_best({number} if choice is None else {number, choice.phase})
        self.processes.wait()  # until the first process has written the best weights
        if phase.validated and self.position.best_epoch is not None:
            best = self.position.choice if settings.undone_unless_best else None
            self.checkpoints.restore_best(self.model, number if best is None else best.phase)
        elif average is not None:
            average.apply()

    def _choose(self) -> None:
        """Loads the best weights of all competing phases, if the last phase is one of them."""
        choice = self.position.choice
        if not self.phases or choice is None or not self.phases[-1].validated:
            return
        if choice.phase != len(self.phases) - 1:
            self.checkpoints.restore_best(self.model, choice.phase)
        self._move(
            best_value=choice.value,
            best_phase=choice.name,
            best_epoch=choice.epoch,
            best_metrics=choice.metrics,
        )

    def _run_epoch(self, stepper: Stepper, take: StepTaker, average: WeightAverage | None) -> None:
        phase = stepper.phase
        epoch, first = self.position.epoch, self.position.step
        steps = phase.steps(epoch)
        self.processes.broadcast(self._changing())  # different machines drift apart
        total, make = len(steps), take.batches(steps)
        meter = _Meter(self.position, self.device)
        phase.module.train()
        saved = time.monotonic()
        name = f"{phase.name} {epoch + 1}/{phase.optimisation.epochs}"
        with self.progress.task(name, total, "steps") as task:
            task.advance(first)
            for step in range(first, total):
                at = epoch * total + step
                whole = total * phase.optimisation.epochs
                stepper.set_rate(learning_rate_at(phase.optimisation, at, whole))
                seed = derive_seed(self.seed, "step", phase.name, epoch, step)
                self.processes.seed(seed)
                batch = make(step)
                targets = count_targets(batch)
                parts = take(self.processes.share(batch), seed)
                if average is not None and step % _STEPS_BETWEEN_AVERAGES == 0:
                    average.add()
                meter.add(parts, targets)
                if meter.due(step):
                    meter.check(phase.name, epoch)
                    if self.checkpoints.due(saved, self.checkpoint_every_s):
                        self._move(step=step + 1, **meter.so_far())
                        self.checkpoints.save_last(
                            self.model, stepper.optimiser, self.position, average
                        )
                        saved = time.monotonic()
                _show(task, meter, step)
        meter.check(phase.name, epoch)
        self._move(step=total, **meter.so_far())

    def _changing(self) -> Iterator[Tensor]:
        state = self.model.state_dict()
        return (value for name, value in state.items() if name not in self.checkpoints.fixed)

    def _end_epoch(self, phase: Phase) -> None:
        at = self.position
        settings = phase.optimisation
        row: dict[str, Any] = {
            "phase": phase.name,
            "epoch": at.epoch + 1,
            "train": {name: value / max(at.step, 1) for name, value in at.sums.items()},
            "targets": at.epoch_targets,
            "seconds": round(at.epoch_seconds, 3),
        }
        better = False
        if phase.validated and settings.validates(at.epoch + 1):
            started = time.monotonic()
            phase.module.eval()
            row["valid"] = self.validate()
            row["valid_seconds"] = round(time.monotonic() - started, 3)
            better = self._compare(phase, row["valid"])
        self.log.write(row)
        self._move(
            epoch=at.epoch + 1,
            step=0,
            sums={},
            epoch_targets=0,
            epoch_seconds=0.0,
            history=[*at.history, row],
        )
        self.progress.note(_describe(row, better))

    def _compare(self, phase: Phase, metrics: dict[str, float]) -> bool:
        """Saves the weights if they are the best of the phase; returns whether they are the best of all."""
        at, metric = self.position, phase.optimisation.metric
        epoch, value = at.epoch + 1, metrics[metric]
        if at.best_value is not None and value <= at.best_value:
            self._move(stale=at.stale + 1)
            return False
        self._move(
            best_value=value,
            best_phase=phase.name,
            best_epoch=epoch,
            best_metrics=metrics,
            stale=0,
        )
        self.checkpoints.save_best(self.model, at.phase)
        choice = at.choice
        if choice is not None and choice.metric == metric and value <= choice.value:
            return False
        self._move(
            choice=Choice(
                phase=at.phase, name=phase.name, epoch=epoch, metric=metric, metrics=metrics
            )
        )
        return True

    def _out_of_patience(self, phase: Phase) -> bool:
        at, settings = self.position, phase.optimisation
        if settings.patience is None or at.stale < settings.patience:
            return False
        if not settings.patience_steps:
            return True  # the plan of an epoch costs time, and some phases fit while they make it
        since = at.epoch - (at.best_epoch or 0)
        return since * len(phase.steps(at.epoch)) >= settings.patience_steps

    def _random_devices(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []

    def _move(self, **changes: Any) -> None:
        self.position = self.position.model_copy(update=changes)


class _Meter:
    """Sums loss parts. On a GPU it reads them every 50 steps, since each read waits for the device."""

    def __init__(self, position: Position, device: torch.device) -> None:
        self._sums = dict(position.sums)
        self._targets = position.epoch_targets
        self._seconds = position.epoch_seconds
        self._started = time.monotonic()
        self._pending: list[dict[str, Tensor]] = []
        self._step = position.step
        self._every = 1 if device.type == "cpu" else 50
        self.last_loss = math.nan

    def add(self, parts: dict[str, Tensor], targets: int) -> None:
        self._pending.append({name: value.detach() for name, value in parts.items()})
        self._targets += targets

    def due(self, step: int) -> bool:
        return (step + 1) % self._every == 0

    def check(self, phase: str, epoch: int) -> None:
        """Reads the pending losses.

        Raises:
            TrainingError: one of them is not finite.
        """
        for parts in self._pending:
            for name, value in parts.items():
                number = float(value)
                if not math.isfinite(number):
                    raise TrainingError(
                        f"{name} is {number} in phase {phase!r}, epoch {epoch + 1}, step "
                        f"{self._step + 1}; lower learning_rate or set clip_norm"
                    )
                self._sums[name] = self._sums.get(name, 0.0) + number
            self.last_loss = float(parts["loss"])
            self._step += 1
        self._pending.clear()

    def so_far(self) -> dict[str, Any]:
        seconds = self._seconds + time.monotonic() - self._started
        return {"sums": dict(self._sums), "epoch_targets": self._targets, "epoch_seconds": seconds}


def learning_rate_at(settings: Optimisation, step: int, total_steps: int) -> float:
    """Returns the learning rate at `step` (from 0) of `total_steps`: linear warm-up, then the schedule."""
    rate = settings.learning_rate
    if step < settings.warmup_steps:
        return rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "cosine":
        span = max(1, total_steps - settings.warmup_steps)
        return rate * 0.5 * (1 + math.cos(math.pi * (step - settings.warmup_steps) / span))
    return rate


def _show(task: Task, meter: _Meter, step: int) -> None:
    if math.isfinite(meter.last_loss):
        task.advance(1, loss=f"{meter.last_loss:.3f}")
    else:
        task.advance(1)


def _describe(row: dict[str, Any], better: bool) -> str:
    losses = ", ".join(f"{name} {value:.4f}" for name, value in row["train"].items())
    text = f"{row['phase']} epoch {row['epoch']}: {losses}, {row['seconds']:.1f} s"
    if "valid" in row:
        shown = ", ".join(f"{name} {value:.4f}" for name, value in row["valid"].items())
        text += f" | valid {shown}{' (best)' if better else ''}"
    return text
