"""Training steps that are recorded once for each shape of a batch and then replayed (`nn.graphs`).

A recorded step is all of it: forward pass, loss, gradients, clipping and optimiser. Batches have few shapes
(`FixedShape.padded`). Random draws stay those of the step's seed: a graph reads seed and offset of the
generator when it is replayed, so a step draws the same numbers whether it is replayed or not, in an unbroken
run or in a resumed one. The learning rate is a tensor on the device for the same reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from seqloom.core.phase import FixedShape, Steps
from seqloom.nn.graphs import (
    MOST,
    Recorder,
    Recording,
    Results,
    Shape,
    build_recorder,
    reason_of,
)
from seqloom.training.step import Stepper, on_device


class Replayer:
    """Takes the steps of a stepper, and replays those whose shape occurs often.

    The first batch of a shape is computed step by step, which lets libraries choose and compile their
    kernels; the second is a rehearsal; the third is recorded. All of them are trained on once, in order.
    """

    def __init__(
        self, stepper: Stepper, recorder: Recorder, note: Callable[[str], None], most: int = MOST
    ) -> None:
        """`note` receives one sentence if steps cannot be recorded."""
        self._stepper, self._recorder, self._note = stepper, recorder, note
        self._left = most
        self._seen: Counter[Shape] = Counter()
        self._recordings: dict[Shape, Recording] = {}

    @property
    def shapes(self) -> int:
        """Number of recorded shapes."""
        return len(self._recordings)

    def __call__(self, batch: Any, seed: int) -> Results:
        """Trains on a batch of the host with the random draws of `seed`; returns the loss parts."""
        batch = batch.padded()
        tensors: tuple[Tensor, ...] = batch.tensors()
        shape = tuple(tensor.shape for tensor in tensors)
        self._stepper.processes.seed(seed)
        if shape in self._recordings:
            return self._recordings[shape](_pinned(tensors, self._stepper.device))
        self._seen[shape] += 1
        if not self._left or self._seen[shape] == 1:
            return self._stepper(on_device(batch, self._stepper.device))
        try:
            if self._seen[shape] == 2:
                moved = on_device(batch, self._stepper.device)
                return self._recorder.rehearse(lambda: self._stepper(moved))
            return self._record(shape, batch)
        except RuntimeError as error:
            self._left = 0
            self._recordings.clear()
            self._note(
                f"steps are not recorded as graphs ({reason_of(error)}); they are taken one by one"
            )
            self._stepper.processes.seed(seed)
            return self._stepper(on_device(batch, self._stepper.device))

    def _record(self, shape: Shape, batch: FixedShape) -> Results:
        device = self._stepper.device
        inputs = tuple(tensor.to(device, copy=True) for tensor in batch.tensors())
        own = batch.with_tensors(inputs)
        recording = Recording(inputs, self._recorder.record(lambda: self._stepper(own)))
        self._recordings[shape] = recording
        self._left -= 1
        return recording(inputs)


class StepTaker:
    """Takes the steps of one phase, by recordings where it can be.

    Steps are recorded where the phase says that they can be (`Phase.replays`), for a single process, on a
    CUDA device or with a `recorder`. The next batch is then made in a thread while the device computes.
    """

    def __init__(
        self, stepper: Stepper, recorder: Recorder | None, note: Callable[[str], None]
    ) -> None:
        """`note` receives one sentence if steps cannot be recorded."""
        self._stepper = stepper
        self._replayer: Replayer | None = None
        if not _can_replay(stepper):
            return
        recorder = recorder or build_recorder(stepper.device)
        if recorder is not None:
            self._replayer = Replayer(stepper, recorder, note)
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")

    def batches(self, steps: Steps) -> Callable[[int], Any]:
        """Returns what makes the batch of a step."""
        if self._replayer is None:
            return steps.__getitem__
        return _Ahead(steps, self._pool, self._stepper.device)

    def __call__(self, batch: Any, seed: int) -> Results:
        """Trains on a batch of the host; draws of recorded steps are those of `seed`."""
        if self._replayer is not None and isinstance(batch, FixedShape):
            return self._replayer(batch, seed)
        return self._stepper(on_device(batch, self._stepper.device))


class _Ahead:
    """Makes batches, the next one in a thread. Batches of phases that replay draw from no shared stream."""

    def __init__(self, steps: Steps, pool: ThreadPoolExecutor, device: torch.device) -> None:
        self._steps, self._pool, self._device = steps, pool, device
        self._next: tuple[int, Future[Any]] | None = None

    def __call__(self, step: int) -> Any:
        if self._next is not None and self._next[0] == step:
            made = self._next[1]
        else:
            made = self._pool.submit(self._make, step)
        after = step + 1
        if after < len(self._steps):
            self._next = (after, self._pool.submit(self._make, after))
        return made.result()

    def _make(self, step: int) -> Any:
        batch = self._steps[step]
        if not isinstance(batch, FixedShape):
            return batch
        padded = batch.padded()
        return padded.with_tensors(_pinned(padded.tensors(), self._device))


def _can_replay(stepper: Stepper) -> bool:
    return stepper.processes.size == 1 and bool(getattr(stepper.phase, "replays", False))


def _pinned(tensors: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
    """Moves a batch to memory from which a device copies by itself."""
    if device.type != "cuda":
        return tensors
    return tuple(each if each.is_pinned() else each.pin_memory() for each in tensors)
