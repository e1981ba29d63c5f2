"""Worker processes of this machine. One that dies is replaced, and its piece begun again."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Self

from seqloom.core.errors import EngineError, SeqloomError
from seqloom.core.progress import SILENT, Progress
from seqloom.jobs.base import ATTEMPTS, Work, cores

_SPAWN = multiprocessing.get_context("spawn")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")


class LocalRunner:
    """`workers` processes, started afresh (no fork: torch and polars hold threads) and kept until `close`.

    The cores are divided among them, unless the environment says how many threads there are.
    """

    name = "local"

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._crew: list[_Worker] = []

    def slots(self) -> int:
        """One piece a worker."""
        return self.workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        while self._crew:
            self._crew.pop().stop()

    def run(
        self, work: Work, pieces: Sequence[int], *, name: str, progress: Progress = SILENT
    ) -> list[Any]:
        """See `seqloom.jobs.base.JobRunner`."""
        queue = _Queue(work, pieces)
        try:
            with progress.task(name, total=len(pieces), unit="pieces") as task:
                while queue.left:
                    while len(self._crew) < min(self.workers, queue.left):
                        self._crew.append(_Worker(max(1, cores() // self.workers)))
                    for worker in self._crew:
                        worker.give(queue)
                    for worker in _heard(self._crew):
                        if worker.collect(queue):
                            task.advance()
                        else:
                            self._crew.remove(worker)
                            progress.warn(worker.epitaph(queue, name))
        except BaseException:
            self.close()
            raise
        return [queue.results[piece] for piece in pieces]


class _Queue:
    """Pieces that wait, and the results of those that are done."""

    def __init__(self, work: Work, pieces: Sequence[int]) -> None:
        self.work = work
        self.waiting = deque(pieces)
        self.left = len(pieces)
        self.results: dict[int, Any] = {}
        self.deaths: dict[int, int] = {}

    def done(self, piece: int, result: Any) -> None:
        self.results[piece] = result
        self.left -= 1


class _Worker:
    """One process, the pipe to it, and the piece that it works on."""

    def __init__(self, threads: int) -> None:
        self.pipe, theirs = _SPAWN.Pipe()
        self.process: SpawnProcess = _SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
        with _environment(threads):
            self.process.start()
        theirs.close()
        self.piece: int | None = None

    def give(self, queue: _Queue) -> None:
        """The next piece, if this worker has none. A pipe that broke is noticed when collecting."""
        if self.piece is None and queue.waiting:
            self.piece = queue.waiting.popleft()
            try:
                self.pipe.send((queue.work, self.piece))
            except OSError:
                self.process.join(1)

    def collect(self, queue: _Queue) -> bool:
        """Take the result; False where the process died without one.

        Raises:
            SeqloomError: what the piece raised.
        """
        try:
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            return False
        if kind == "error":
            raise value
        assert self.piece is not None
        queue.done(self.piece, value)
        self.piece = None
        return True

    def epitaph(self, queue: _Queue, name: str) -> str:
        """Put the piece back, and say what happened.

        Raises:
            EngineError: workers died too often at this piece.
        """
        self.process.join()
        code = self.process.exitcode
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with {code}"
        if self.piece is None:
            return f"{name}: a worker was {how} while it waited; another takes its place"
        deaths = queue.deaths[self.piece] = queue.deaths.get(self.piece, 0) + 1
        if deaths == ATTEMPTS:
            raise EngineError(
                f"{name}: {deaths} workers died at piece {self.piece}, the last was {how}; signal 9 "
                f"often means that memory ran out: use fewer workers or more shards"
            )
        queue.waiting.appendleft(self.piece)
        return f"{name}: the worker at piece {self.piece} was {how}; another begins it again"

    def stop(self) -> None:
        """End the process now."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _heard(crew: list[_Worker]) -> list[_Worker]:
    """The workers that have answered or died; waits for the first."""
    ready = set(wait([worker.pipe for worker in crew]))
    return [worker for worker in crew if worker.pipe in ready]


def _serve(pipe: Connection) -> None:
    """A worker's life: pieces in, results out, until the other end is gone."""
    sys.stdout = sys.stderr  # standard output belongs to the command's one document
    while True:
        try:
            work, piece = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer: tuple[str, Any] = ("done", work(piece))
        except SeqloomError as error:
            answer = ("error", error)
        except KeyboardInterrupt:
            return
        except BaseException:
            said = f"piece {piece} failed:\n{traceback.format_exc()}"
            answer = ("error", EngineError(said))
        pipe.send(answer)


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """What a process that is started now is told of its threads."""
    added = {key: str(threads) for key in _THREADS if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            del os.environ[key]
