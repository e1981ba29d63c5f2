"""Checkpoints of a model whose weights are sharded over processes: each process writes its rows."""

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
    """Checkpoints in which `model` and `optimiser` are folders with one file per process.

    All processes must make the same calls. `Checkpoints` reads these folders, and this class its files.
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
        """Replaces `last/` by the present state when all processes have written their rows."""
        assert average is None, "systems with sharded weights do not average them"
        with self._together("last") as work:
            write_rows(work / "model", self._state(model), self._processes)
            write_rows(work / "optimiser", flatten(model, optimiser), self._processes)
            if self._processes.rank == 0:
                write_json(work / "position.json", position.model_dump(mode="json"), sealed=True)

    def save_best(self, model: nn.Module, phase: int) -> None:
        """Writes the present weights as the best of a phase."""
        with self._together(self.best(phase).name) as work:
            write_rows(work / "model", self._state(model), self._processes)

    def keep_best(self, phases: set[int]) -> None:
        """Removes the best weights of all other phases."""
        if self._processes.rank == 0:
            super().keep_best(phases)

    def due(self, saved: float, every_s: float) -> bool:
        """Returns whether it is time by the clock of the first process."""
        return bool(
            self._processes.run_on_first(
                lambda: "yes" if super(SpreadCheckpoints, self).due(saved, every_s) else ""
            )
        )

    def drop_last(self) -> None:
        """Removes `last/`."""
        if self._processes.rank == 0:
            super().drop_last()

    @contextmanager
    def _together(self, name: str) -> Iterator[Path]:
        """Yields a folder for all processes to write to; the first process moves it into place."""
        if self._processes.rank:
            yield Path(self._processes.run_on_first(str))
            self._processes.wait()
            return
        with atomic_folder(self.folder / name, overwrite=True) as work:
            self._processes.run_on_first(lambda: str(work))
            yield work
            self._processes.wait()
            write_hashes(work)
