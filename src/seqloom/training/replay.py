"""Training steps that are recorded once for each shape of a batch and then replayed.

On a GPU a step of a small model is hundreds of short kernels, and starting them takes longer than running
them. A CUDA graph starts all of them at once: forward pass, loss, gradients, clipping and optimiser.

A graph reads and writes fixed memory. So batches have few shapes (`FixedShape.padded`) and are copied into
tensors that belong to the graph, and its losses are copied out before the next replay. Random draws stay
those of the step's seed: a graph reads seed and offset of the generator when it is replayed, so a step draws
the same numbers whether it is replayed or not, in an unbroken run or in a resumed one. The learning rate is
a tensor on the device for the same reason.

Source: Nguyen et al. 2021, "Accelerating PyTorch with CUDA Graphs"; `torch.cuda.graphs`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from seqloom.core.phase import FixedShape, Steps
from seqloom.training.step import Stepper, on_device

VARIABLE = "SEQLOOM_CUDA_GRAPHS"
"""Environment variable: `0` takes every step without a graph."""
MOST = 64
"""Most shapes that are recorded; batches of further shapes are computed step by step."""

Losses = dict[str, Tensor]
Step = Callable[[], Losses]
Shape = tuple[torch.Size, ...]


class Recorder(Protocol):
    """Records steps on fixed memory."""

    def rehearse(self, step: Step) -> Losses:
        """Takes a step as it would be recorded.

        Raises:
            RuntimeError: the step cannot be recorded: it waits for the device.
        """

    def record(self, step: Step) -> Step:
        """Records a step without taking it; the returned function takes it and returns the same tensors.

        Raises:
            RuntimeError: the step cannot be recorded.
        """


class CudaGraphs:
    """Records steps as CUDA graphs that share one pool of memory.

    They can share it because no tensor of a graph is used after its replay but the losses, which are
    copied first.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool: Any = torch.cuda.graph_pool_handle()

    def rehearse(self, step: Step) -> Losses:
        """See `Recorder`. Runs on the stream of the recordings, as `torch.cuda.graphs` advises."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        try:
            with _refuse_waits(), torch.cuda.stream(self._stream):
                return step()
        finally:
            current.wait_stream(self._stream)

    def record(self, step: Step) -> Step:
        """See `Recorder`."""
        graph = torch.cuda.CUDAGraph()
        try:
            # Another thread may meanwhile pin the memory of the next batch.
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._stream,
                capture_error_mode="thread_local",
            ):
                losses = step()
        except RuntimeError:
            _renew_generator(self._device)
            raise

        def replay() -> Losses:
            graph.replay()
            return losses

        return replay


def _renew_generator(device: torch.device) -> None:
    """Gives the device's generator a new state: after a failed recording the old one draws no more."""
    number = device.index if device.index is not None else torch.cuda.current_device()
    state = torch.Generator(device).graphsafe_get_state()
    torch.cuda.default_generators[number].graphsafe_set_state(state)


@contextmanager
def _refuse_waits() -> Iterator[None]:
    """Makes torch raise RuntimeError within the block where the host would wait for the device."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@dataclass(frozen=True)
class _Recording:
    """A recorded step and the tensors it reads."""

    inputs: tuple[Tensor, ...]
    replay: Step

    def __call__(self, tensors: tuple[Tensor, ...]) -> Losses:
        for own, given in zip(self.inputs, tensors, strict=True):
            own.copy_(given, non_blocking=True)
        return {name: value.clone() for name, value in self.replay().items()}


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
        self._recordings: dict[Shape, _Recording] = {}

    @property
    def shapes(self) -> int:
        """Number of recorded shapes."""
        return len(self._recordings)

    def __call__(self, batch: Any, seed: int) -> Losses:
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
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
            self._note(f"steps are not recorded as graphs ({reason}); they are taken one by one")
            self._stepper.processes.seed(seed)
            return self._stepper(on_device(batch, self._stepper.device))

    def _record(self, shape: Shape, batch: FixedShape) -> Losses:
        device = self._stepper.device
        inputs = tuple(tensor.to(device, copy=True) for tensor in batch.tensors())
        own = batch.with_tensors(inputs)
        recording = _Recording(inputs, self._recorder.record(lambda: self._stepper(own)))
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
        if recorder is None and stepper.device.type == "cuda" and os.environ.get(VARIABLE) != "0":
            recorder = CudaGraphs(stepper.device)
        if recorder is not None:
            self._replayer = Replayer(stepper, recorder, note)
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")

    def batches(self, steps: Steps) -> Callable[[int], Any]:
        """Returns what makes the batch of a step."""
        if self._replayer is None:
            return steps.__getitem__
        return _Ahead(steps, self._pool, self._stepper.device)

    def __call__(self, batch: Any, seed: int) -> Losses:
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
