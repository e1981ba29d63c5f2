"""The training log of a run: `log.jsonl` and TensorBoard event files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seqloom.core.files import atomic_file


class RunLog:
    """Appends one JSON line per epoch. A resumed run removes the lines after its checkpoint first."""

    def __init__(
        self,
        folder: Path,
        *,
        tensorboard: bool = True,
        listen: Callable[[int, Mapping[str, Any]], None] | None = None,
    ) -> None:
        """`listen` receives the number and the row of each epoch."""
        self._listen = listen
        self._rows = 0
        self.file = folder / "log.jsonl"
        self.board_folder = folder / "tensorboard" if tensorboard else None
        self._board: Any = None

    def restart(self, rows: list[dict[str, Any]]) -> None:
        """Replaces the content of the log by `rows`."""
        with atomic_file(self.file) as work:
            work.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self._rows = len(rows)

    def write(self, row: dict[str, Any]) -> None:
        """Appends one row, and its numbers to TensorBoard."""
        with self.file.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        self._to_board(row)
        self._rows += 1
        if self._listen is not None:
            self._listen(self._rows, row)

    def close(self) -> None:
        """Closes the TensorBoard file."""
        if self._board is not None:
            self._board.close()

    def _to_board(self, row: dict[str, Any]) -> None:
        if self.board_folder is None:
            return
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.board_folder))
        for section in ("train", "valid"):
            for name, value in row.get(section, {}).items():
                self._board.add_scalar(f"{row['phase']}/{section}/{name}", value, row["epoch"])
        self._board.add_scalar(f"{row['phase']}/seconds", row["seconds"], row["epoch"])


class NoLog(RunLog):
    """A log that writes nothing, for all processes but the first."""

    def __init__(self) -> None:
        pass

    def restart(self, rows: list[dict[str, Any]]) -> None:
        """Does nothing."""

    def write(self, row: dict[str, Any]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""
