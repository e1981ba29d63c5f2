"""What a run says of its course: `log.jsonl`, and TensorBoard event files beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from seqloom.core.files import atomic_file


class RunLog:
    """Appends one JSON line an epoch. On resuming, lines past the checkpoint are cut off first."""

    def __init__(self, folder: Path, *, tensorboard: bool = True) -> None:
        self.file = folder / "log.jsonl"
        self.board_folder = folder / "tensorboard" if tensorboard else None
        self._board: Any = None

    def restart(self, rows: list[dict[str, Any]]) -> None:
        """Make the log hold exactly `rows`."""
        with atomic_file(self.file) as work:
            work.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        """Append one row and its numbers to TensorBoard."""
        with self.file.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        self._to_board(row)

    def close(self) -> None:
        """Flush the TensorBoard file."""
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
    """The log of a process that keeps none, because another one does."""

    def __init__(self) -> None:
        pass

    def restart(self, rows: list[dict[str, Any]]) -> None:
        """Nothing."""

    def write(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
