"""Work on fixed memory that is recorded once for each shape of its inputs and then replayed.

On a GPU the work of a small batch is hundreds of short kernels, and starting them takes longer than running
them. A CUDA graph starts all of them at once. It reads and writes fixed memory: inputs are copied into
tensors that belong to the graph, and results are copied out before the next replay.

Source: Nguyen et al. 2021, "Accelerating PyTorch with CUDA Graphs"; `torch.cuda.graphs`.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

VARIABLE = "SEQLOOM_CUDA_GRAPHS"
"""Environment variable: `0` computes everything without graphs."""
MOST = 64
"""Most shapes that are recorded; work on further shapes is computed without."""

Results = dict[str, Tensor]
Work = Callable[[], Results]
Shape = tuple[torch.Size, ...]


class Recorder(Protocol):
    """Records work on fixed memory."""

    def rehearse(self, work: Work) -> Results:
        """Does the work as it would be recorded.

        Raises:
            RuntimeError: the work cannot be recorded: it waits for the device.
        """

    def record(self, work: Work) -> Work:
        """Records work without doing it; the returned function does it and returns the same tensors.

        Raises:
            RuntimeError: the work cannot be recorded.
        """


class CudaGraphs:
    """Records work as CUDA graphs that share one pool of memory.

    They can share it because no tensor of a graph is used after its replay but the results, which are
    copied first.
    """

    def __init__(self, device: torch.device, *, strict: bool = True) -> None:
        """Builds a recorder.

        Args:
            strict: a rehearsal fails where the host waits for the device, so no other thread may
                wait meanwhile; if not set, the recording fails.
        """
        self._device, self._strict = device, strict
        self._stream = torch.cuda.Stream(device)
        self._pool: Any = torch.cuda.graph_pool_handle()

    def rehearse(self, work: Work) -> Results:
        """See `Recorder`. Runs on the stream of the recordings, as `torch.cuda.graphs` advises."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        refuse: AbstractContextManager[None] = _refuse_waits() if self._strict else nullcontext()
        try:
            with refuse, torch.cuda.stream(self._stream):
                return work()
        finally:
            current.wait_stream(self._stream)

    def record(self, work: Work) -> Work:
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
                results = work()
        except RuntimeError:
            _renew_generator(self._device)
            raise

        def replay() -> Results:
            graph.replay()
            return results

        return replay


def build_recorder(device: torch.device, *, strict: bool = True) -> Recorder | None:
    """Returns a recorder for `device`; None where there is none, or `VARIABLE` is 0."""
    if device.type != "cuda" or os.environ.get(VARIABLE) == "0":
        return None
    return CudaGraphs(device, strict=strict)


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
class Recording:
    """Recorded work and the tensors it reads."""

    inputs: tuple[Tensor, ...]
    replay: Work

    def __call__(self, tensors: tuple[Tensor, ...]) -> Results:
        """Does the work on other inputs of the same shapes; returns tensors of its own."""
        for own, given in zip(self.inputs, tensors, strict=True):
            own.copy_(given, non_blocking=True)
        return {name: value.clone() for name, value in self.replay().items()}


class RecordedFunction:
    """A function of tensors without gradients; calls whose shapes occur often are replayed.

    The function reads nothing but its arguments and tensors that stay where they are, draws no random
    numbers and does not wait for the device. Its first call on some shapes is computed as it is, which lets
    libraries choose their kernels, the second is a rehearsal, and the third is recorded.
    """

    def __init__(
        self, function: Callable[..., Tensor], recorder: Recorder, most: int = MOST
    ) -> None:
        self._function, self._recorder, self._left = function, recorder, most
        self._seen: Counter[Any] = Counter()
        self._recordings: dict[Any, Recording] = {}
        self._lock = threading.Lock()

    @property
    def shapes(self) -> int:
        """Number of recorded shapes."""
        return len(self._recordings)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Returns the function's result, a tensor of its own. Safe to call from several threads."""
        key = (
            torch.is_autocast_enabled(inputs[0].device.type),
            *((tensor.shape, tensor.dtype) for tensor in inputs),
        )
        with self._lock, torch.no_grad(), _without_cast_cache():
            if key in self._recordings:
                return self._recordings[key](inputs)["result"]
            self._seen[key] += 1
            if not self._left or self._seen[key] == 1:
                return self._function(*inputs)
            try:
                if self._seen[key] == 2:
                    return self._recorder.rehearse(self._bind(inputs))["result"]
                return self._record(key, inputs)
            except RuntimeError as error:
                self._give_up(error)
                return self._function(*inputs)

    def _record(self, key: Any, inputs: tuple[Tensor, ...]) -> Tensor:
        with torch.inference_mode(False):  # later calls may write to them in either mode
            own = tuple(torch.empty_like(tensor).copy_(tensor) for tensor in inputs)
        recording = Recording(own, self._recorder.record(self._bind(own)))
        self._recordings[key] = recording
        self._left -= 1
        return recording(inputs)["result"]

    def _bind(self, inputs: tuple[Tensor, ...]) -> Work:
        return lambda: {"result": self._function(*inputs)}

    def _give_up(self, error: RuntimeError) -> None:
        self._left = 0
        self._recordings.clear()
        warnings.warn(
            f"small batches are computed without CUDA graphs ({reason_of(error)}), which takes longer",
            stacklevel=3,
        )


@contextmanager
def _without_cast_cache() -> Iterator[None]:
    """Keeps autocast from reusing casts of weights: a graph would read them after they are freed."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


def reason_of(error: RuntimeError) -> str:
    """Returns the first line of an error's message."""
    return next(iter(str(error).strip().splitlines()), "no reason given")
