"""The processes that train one model together. Most often it is one, for which all of this does nothing.

Every process holds the whole model and cuts the same batches; each computes the loss of its share of a
batch, and gradients and losses are summed. So a step is defined on the whole batch, however many share it.
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
    """This process among those that work on the same thing.

    All of them must call the same methods in the same order, as they do if they run the same program.

    Raises (each method that waits for others):
        ProcessError: another process is gone.
    """

    rank: int
    """Number of this process, from 0; the first alone writes files and speaks."""
    size: int
    """How many there are."""

    def device(self, name: str) -> str:
        """The device of this process, where the user asked for `name`."""

    def run_on_first(self, act: Callable[[], str]) -> str:
        """Let the first process act; what it returns is told to all.

        Raises:
            ProcessError: on the others, that the first one raised (there, what was raised).
        """

    def run_in_turn(self, make: Callable[[], T]) -> T:
        """Let the first process make something, then the others: they find what it has put into caches."""

    def wait(self) -> None:
        """Go on when all have come here."""

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give everyone the first process's values, in place; tensors that are spread are left out."""

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor of one shape over all processes, in place; gives it back."""

    def share(self, batch: T) -> T:
        """This process's rows of a batch. A process for which no row is left gets one that counts nothing.

        Raises:
            ConfigError: the batch is not `Divisible`.
        """

    def locate_rows(self, count: int) -> tuple[int, slice]:
        """Of things of which this process's share has `count`: how many all shares have, and its places."""

    def gather_rows(self, rows: Tensor) -> tuple[Tensor, slice]:
        """The rows of all shares below each other, without gradient, and the places of these."""

    def seed(self, seed: int) -> None:
        """Set the global random state for a step. Layers draw from it, each process from its own."""

    def shared_random_state(self) -> AbstractContextManager[None]:
        """Within the block the global random state is the same for all: for draws for the whole batch."""

    def add_up(self, parts: Mapping[str, Mean]) -> dict[str, Tensor]:
        """The loss of this share and its parts, such that those of all processes add up to the batch's."""

    def sum_gradients(self, module: nn.Module, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give every process the whole batch's gradients; returns the whole batch's loss and parts.

        Of spread parameters each has those of its rows, which FSDP has summed.
        """

    def report_lost_processes(self) -> AbstractContextManager[None]:
        """Within the block exchanges that torch makes by itself (FSDP) raise `ProcessError` too."""


class _SingleProcess:
    """One process: nothing to divide, nobody to wait for."""

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
    """Whether a launcher (torchrun, accelerate) started this process as one of several."""
    wanted = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return all(environment.get(name) for name in wanted) and int(environment["WORLD_SIZE"]) > 1
