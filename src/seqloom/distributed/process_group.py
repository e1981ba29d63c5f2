"""Process groups as torch's launchers start them: gloo between CPUs, NCCL between GPUs.

Differs: gradients are summed in large buckets after the backward pass, not during it as in torch's
`DistributedDataParallel`. The largest gradient is that of the item table, which is both input and output and
so is complete only at the end of the backward pass: there is little to overlap. Also, phases may call any
method of their module, while that class sees only `forward`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from seqloom.core.errors import ConfigError, ProcessError
from seqloom.core.phase import Divisible, Mean, add_up
from seqloom.core.random import derive_seed
from seqloom.distributed.dtensors import is_sharded
from seqloom.distributed.heartbeat import ADVICE, Heartbeat
from seqloom.distributed.processes import ALONE, Processes, are_several

T = TypeVar("T")
_BUCKET_BYTES = 32 << 20
_TIMEOUT = timedelta(hours=1)


class ProcessGroup:
    """`Processes` over `torch.distributed`."""

    def __init__(self, rank: int, size: int, local_rank: int) -> None:
        self.rank, self.size = rank, size
        self._local_rank = local_rank
        self._borrowed = False
        """Whether the current share is a borrowed row of another process, which has no weight."""
        self._shared_state: list[Tensor] = []

    def device(self, name: str) -> str:
        """Returns the GPU with this process's local rank, or the CPU.

        Raises:
            ConfigError: `name` is one GPU by number.
        """
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name.startswith("cuda:"):
            raise ConfigError(
                f"device {name!r} is one GPU, but {self.size} processes train together; use 'cuda', and each "
                "process takes the GPU of its number (CUDA_VISIBLE_DEVICES limits the choice)"
            )
        return f"cuda:{self._local_rank}" if name == "cuda" else name

    def run_on_first(self, act: Callable[[], str]) -> str:
        if self.rank == 0:
            try:
                text = act()
            except BaseException:
                self._send_text(None)
                raise
            self._send_text(text)
            return text
        received = self._receive_text()
        if received is None:
            raise ProcessError("process 0 has failed; its message says why")
        return received

    def run_in_turn(self, make: Callable[[], T]) -> T:
        results: list[T] = []

        def act() -> str:
            results.append(make())
            return ""

        self.run_on_first(act)
        return results[0] if results else make()

    def wait(self) -> None:
        self.sum(torch.zeros(1))

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        with _exchange():
            for tensor in tensors:
                if is_sharded(tensor):
                    continue
                whole = tensor.detach().contiguous()
                dist.broadcast(whole, 0)
                if whole.data_ptr() != tensor.data_ptr():
                    tensor.detach().copy_(whole)

    def sum(self, tensor: Tensor) -> Tensor:
        with _exchange():
            dist.all_reduce(tensor)
        return tensor

    def share(self, batch: T) -> T:
        if not isinstance(batch, Divisible):
            raise ConfigError(
                f"a {type(batch).__name__} cannot be divided among {self.size} processes; train in one"
            )
        own = rows_of_process(len(batch), self.rank, self.size)
        self._borrowed = own.start == own.stop
        return batch.share(slice(0, 1) if self._borrowed else own)

    def locate_rows(self, count: int) -> tuple[int, slice]:
        counts = torch.zeros(self.size, dtype=torch.int64)
        if self._borrowed:  # the borrowed row is the first row of the first process
            return int(self.sum(counts).sum()), slice(0, count)
        counts[self.rank] = count
        before = int(self.sum(counts)[: self.rank].sum())
        return int(counts.sum()), slice(before, before + count)

    def gather_rows(self, rows: Tensor) -> tuple[Tensor, slice]:
        whole, own = self.locate_rows(len(rows))
        every = torch.zeros(whole, *rows.shape[1:], dtype=rows.dtype, device=rows.device)
        if not self._borrowed:
            every[own] = rows.detach()
        return self.sum(every), own

    def seed(self, seed: int) -> None:
        torch.manual_seed(seed)
        self._shared_state = _random_state()
        torch.manual_seed(derive_seed(seed, "process", self.rank))

    @contextmanager
    def shared_random_state(self) -> Iterator[None]:
        own = _random_state()
        _set_random_state(self._shared_state)
        try:
            yield
        finally:
            self._shared_state = _random_state()
            _set_random_state(own)

    def add_up(self, parts: Mapping[str, Mean]) -> dict[str, Tensor]:
        values = [part.value for part in parts.values()]
        counts = torch.stack(
            [torch.as_tensor(p.count, device=p.value.device).double() for p in parts.values()]
        )
        if self._borrowed:
            counts.zero_()
        whole = self.sum(counts.clone()).clamp(min=1)
        shares = (counts / whole).to(values[0].dtype)
        return add_up({name: v * s for name, v, s in zip(parts, values, shares, strict=True)})

    def sum_gradients(self, module: nn.Module, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        parameters = [p for p in module.parameters() if p.requires_grad]
        self._agree_on_missing(parameters)
        # FSDP has summed the gradients of sharded parameters.
        gradients = [p.grad for p in parameters if p.grad is not None and not is_sharded(p)]
        values = torch.stack([value.detach().float() for value in parts.values()])
        with _exchange():
            buckets = [_Bucket(tensors) for tensors in _fill_buckets([*gradients, values])]
            for bucket in buckets:
                bucket.finish()
        return dict(zip(parts, values, strict=True))

    @contextmanager
    def report_lost_processes(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and "gloo" not in str(error):
                raise
            raise _gone(error) from error

    def _agree_on_missing(self, parameters: list[nn.Parameter]) -> None:
        """Sets zero gradients where another process has one; the optimiser skips parameters without any."""
        missing = [p.grad is None for p in parameters]
        present = self.sum(torch.tensor([not m for m in missing], dtype=torch.uint8))
        for parameter, absent, anywhere in zip(parameters, missing, present.tolist(), strict=True):
            if absent and anywhere:
                parameter.grad = torch.zeros_like(parameter)

    def _send_text(self, text: str | None) -> None:
        """Sends a text, or None for a failure, from the first process to all others."""
        data = torch.tensor(list((text or "").encode()), dtype=torch.uint8)
        with _exchange():
            dist.broadcast(torch.tensor([-1 if text is None else len(data)]), 0)
            if len(data):
                dist.broadcast(data, 0)

    def _receive_text(self) -> str | None:
        """Receives what `_send_text` sent."""
        length = torch.zeros(1, dtype=torch.int64)
        with _exchange():
            dist.broadcast(length, 0)
            if int(length) < 0:
                return None
            data = torch.zeros(int(length), dtype=torch.uint8)
            if len(data):
                dist.broadcast(data, 0)
        return bytes(data.tolist()).decode()


class _Bucket:
    """Tensors of one device and type, summed over the processes by one asynchronous exchange."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self._tensors = tensors
        alone = len(tensors) == 1 and tensors[0].is_contiguous()
        self._flat = tensors[0] if alone else torch.cat([t.reshape(-1) for t in tensors])
        self._work: Any = dist.all_reduce(self._flat, async_op=True)

    def finish(self) -> None:
        """Waits for the exchange and copies the sums back into the tensors."""
        self._work.wait()
        if self._flat is self._tensors[0]:
            return
        parts = self._flat.split([t.numel() for t in self._tensors])
        for tensor, part in zip(self._tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def _fill_buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Groups tensors by device and type into buckets of limited size; a larger tensor is a bucket alone."""
    open_: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        kind = open_.setdefault((tensor.device, tensor.dtype), [])
        kind.append(tensor)
        if tensor.nbytes >= _BUCKET_BYTES:
            yield [kind.pop()]
        elif sum(t.nbytes for t in kind) >= _BUCKET_BYTES:
            yield open_.pop((tensor.device, tensor.dtype))
    yield from (kind for kind in open_.values() if kind)


def rows_of_process(count: int, rank: int, size: int) -> slice:
    """Returns the contiguous rows of a batch that belong to process `rank`; shares differ by at most one."""
    return slice(count * rank // size, count * (rank + 1) // size)


def _random_state() -> list[Tensor]:
    devices = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *devices]


def _set_random_state(state: list[Tensor]) -> None:
    torch.set_rng_state(state[0])
    for own in state[1:]:
        torch.cuda.set_rng_state(own)


@contextmanager
def _exchange() -> Iterator[None]:
    """Raises `ProcessError` for a failed exchange within the block."""
    try:
        yield
    except RuntimeError as error:
        raise _gone(error) from error


def _gone(error: RuntimeError) -> ProcessError:
    reason = str(error).strip().splitlines()[0]
    return ProcessError(f"another process is gone ({reason}). {ADVICE}")


@contextmanager
def open_processes(device: str = "auto") -> Iterator[Processes]:
    """Joins the processes that a launcher started, as the environment says; `ALONE` without a launcher.

    Raises:
        ProcessError: the others do not connect in time.
    """
    if not are_several(os.environ):
        yield ALONE
        return
    with _exchange():
        store, rank, size = next(dist.rendezvous("env://", timeout=timedelta(minutes=5)))
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
        gpu = device != "cpu" and torch.cuda.is_available()
        if gpu:
            torch.cuda.set_device(local_rank)
        kinds = "cpu:gloo,cuda:nccl" if gpu else "gloo"
        dist.init_process_group(kinds, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
    group = ProcessGroup(rank, size, local_rank)
    heartbeat = Heartbeat(store.clone(), rank, size)
    try:
        group.wait()
        heartbeat.start()
        yield group
        group.wait()
    finally:
        heartbeat.stop()
        dist.destroy_process_group()
