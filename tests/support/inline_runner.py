"""A job runner that runs every piece in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from seqloom.core.progress import SILENT, Progress
from seqloom.pipelines.prepare.out_of_core.job import JobFolder


class InlineRunner:
    """Counts the pieces that it computes; stops after `stop_after` of them, as a killed job does."""

    name = "inline"

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after, self.pieces, self.worked = stop_after, 0, 0

    def slots(self) -> int:
        return 1

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def run(
        self, work: Any, pieces: Sequence[int], *, name: str, progress: Progress = SILENT
    ) -> list[Any]:
        results = []
        for piece in pieces:
            if self.pieces == self.stop_after:
                raise KeyboardInterrupt
            self.pieces += 1
            path = JobFolder(work.args[0]).path
            before = set(path.rglob("*.json"))
            results.append(work(piece))
            self.worked += bool(set(path.rglob("*.json")) - before)
        return results
