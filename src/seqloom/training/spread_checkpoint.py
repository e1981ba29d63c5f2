"""Checkpoints of a model whose weights are spread over processes: each writes its own rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from seqloom.core.files import atomic_folder, write_json
from seqloom.distributed.processes import Processes
from seqloom.training.averaging import WeightAverage
from seqloom.training.checkpoint import Checkpoints, Position, flatten
from seqloom.training.state_files import write_hashes, write_rows


class SpreadCheckpoints(Checkpoints):
    """As `Checkpoints`, in which `model` and `optimiser` are folders with a file of each process.

    Every process must make the same calls. Either kind reads what the other has written.
    """

    def __init__(self, folder: Path, fixed: frozenset[str], processes: Processes) -> None:
        super().__init__(folder, fixed)
        self._processes = processes

    def save_last(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        position: Position,
        average: WeightAverage | None = None,
    ) -> None:
        """Replace `last/` by the present state, when all have written their rows."""
        assert average is None, "no system with spread weights has a mean of them"
        with self._together("last") as work:
            write_rows(work / "model", self._state(model), self._processes)
            write_rows(work / "optimiser", flatten(model, optimiser), self._processes)
            if self._processes.rank == 0:
                write_json(work / "position.json", position.model_dump(mode="json"), sealed=True)

    def save_best(self, model: nn.Module, phase: int) -> None:
        """Keep the present weights as the best of a phase."""
        with self._together(self.best(phase).name) as work:
            write_rows(work / "model", self._state(model), self._processes)

    def keep_best(self, phases: set[int]) -> None:
        """Remove the best weights of all other phases."""
        if self._processes.rank == 0:
            super().keep_best(phases)

    def due(self, saved: float, every_s: float) -> bool:
        """Whether the first process finds it time: clocks differ."""
        return bool(
            self._processes.run_on_first(
                lambda: "yes" if super(SpreadCheckpoints, self).due(saved, every_s) else ""
            )
        )

    def drop_last(self) -> None:
        """Remove `last/`."""
        if self._processes.rank == 0:
            super().drop_last()

    @contextmanager
    def _together(self, name: str) -> Iterator[Path]:
        """A folder that all fill and the first process puts in its place."""
        if self._processes.rank:
            yield Path(self._processes.run_on_first(str))
            self._processes.wait()
            return
        with atomic_folder(self.folder / name, overwrite=True) as work:
            self._processes.run_on_first(lambda: str(work))
            yield work
            self._processes.wait()
            write_hashes(work)
