"""The processes that train one model together. With a single process every method is trivial.

Every process holds the whole model and makes the same batches. Each computes the loss of its share of a
batch; gradients and losses are summed. So a step depends on the whole batch, not on the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from seqloom.core.phase import Mean, add_up

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")


class Processes(Protocol):
    """This process within the group of processes that train together.

    All processes must call the same methods in the same order, as they do if they run the same program.

    Raises (each method that waits for others):
        ProcessError: another process is gone.
    """

    rank: int
    """Number of this process, from 0. Only process 0 writes files and prints."""
    size: int
    """Number of processes."""

    def device(self, name: str) -> str:
        """Returns the device of this process, given the device that the user named."""

    def run_on_first(self, act: Callable[[], str]) -> str:
        """Calls `act` on the first process and returns its result on all of them.

        Raises:
            ProcessError: on the other processes, if `act` raised (on the first, the error itself).
        """

    def run_in_turn(self, make: Callable[[], T]) -> T:
        """Calls `make` on the first process, then on the others, which benefit from what it has cached."""

    def wait(self) -> None:
        """Waits until all processes have reached this call."""

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Copies the first process's values to all processes, in place; skips sharded tensors."""

    def sum(self, tensor: Tensor) -> Tensor:
        """Sums a tensor of one shape over all processes, in place, and returns it."""

    def share(self, batch: T) -> T:
        """Returns this process's rows of a batch; where there are none, a borrowed row without weight.

        Raises:
            ConfigError: the batch is not `Divisible`.
        """

    def locate_rows(self, count: int) -> tuple[int, slice]:
        """Given the `count` rows of this share, returns the number of all rows and this share's places."""

    def gather_rows(self, rows: Tensor) -> tuple[Tensor, slice]:
        """Concatenates the rows of all shares, without gradient; returns them and this share's places."""

    def seed(self, seed: int) -> None:
        """Sets the global random state for a step: layers draw from it, in each process another stream."""

    def shared_random_state(self) -> AbstractContextManager[None]:
        """Sets the same global random state on all processes within the block, for draws of a whole batch."""

    def add_up(self, parts: Mapping[str, Mean]) -> dict[str, Tensor]:
        """Returns this share's loss and parts, scaled so that their sums over processes are the batch's."""

    def sum_gradients(self, module: nn.Module, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sums gradients over all processes; returns the whole batch's loss and parts.

        Gradients of sharded parameters stay with the process that holds the rows; FSDP has summed them.
        """

    def report_lost_processes(self) -> AbstractContextManager[None]:
        """Raises `ProcessError` within the block for failed exchanges that torch makes by itself (FSDP)."""


class _SingleProcess:
    """A single process: nothing to divide or to wait for."""

    rank = 0
    size = 1

    def device(self, name: str) -> str:
        return name

    def run_on_first(self, act: Callable[[], str]) -> str:
        return act()

    def run_in_turn(self, make: Callable[[], T]) -> T:
        return make()

    def wait(self) -> None:
        pass

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        pass

    def sum(self, tensor: Tensor) -> Tensor:
        return tensor

    def share(self, batch: T) -> T:
        return batch

    def locate_rows(self, count: int) -> tuple[int, slice]:
        return count, slice(0, count)

    def gather_rows(self, rows: Tensor) -> tuple[Tensor, slice]:
        return rows, slice(0, len(rows))

    def seed(self, seed: int) -> None:
        import torch

        torch.manual_seed(seed)

    def shared_random_state(self) -> AbstractContextManager[None]:
        return nullcontext()

    def add_up(self, parts: Mapping[str, Mean]) -> dict[str, Tensor]:
        return add_up({name: part.value for name, part in parts.items()})

    def sum_gradients(self, module: nn.Module, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        return parts

    def report_lost_processes(self) -> AbstractContextManager[None]:
        return nullcontext()


ALONE: Processes = _SingleProcess()


def are_several(environment: Mapping[str, Any]) -> bool:
    """Returns whether a launcher (torchrun, accelerate) started this process as one of several."""
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return all(environment.get(name) for name in names) and int(environment["WORLD_SIZE"]) > 1
