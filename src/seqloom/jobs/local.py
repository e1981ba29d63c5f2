"""Runs pieces in local worker processes. A worker that dies is replaced and its piece restarted."""

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
    """Runs pieces in `workers` processes, which are kept until `close`.

    Processes are spawned, not forked, because torch and polars hold threads. Cores are divided among the
    processes, unless the environment sets the number of threads.
    """

    name = "local"

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._workers: list[_Worker] = []

    def slots(self) -> int:
        """Returns the number of workers: one piece each."""
        return self.workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes."""
        while self._workers:
            self._workers.pop().stop()

    def run(
        self, work: Work, pieces: Sequence[int], *, name: str, progress: Progress = SILENT
    ) -> list[Any]:
        """See `seqloom.jobs.base.JobRunner`."""
        queue = _Queue(work, pieces)
        try:
            with progress.task(name, total=len(pieces), unit="pieces") as task:
                while queue.left:
                    while len(self._workers) < min(self.workers, queue.left):
                        self._workers.append(_Worker(max(1, cores() // self.workers)))
                    for worker in self._workers:
                        worker.start_piece(queue)
                    for worker in _wait_for_any(self._workers):
                        if worker.collect_result(queue):
                            task.advance()
                        else:
                            self._workers.remove(worker)
                            progress.warn(worker.requeue_piece(queue, name))
        except BaseException:
            self.close()
            raise
        return [queue.results[piece] for piece in pieces]


class _Queue:
    """Pieces that wait, results of finished pieces, and the deaths of workers at each piece."""

    def __init__(self, work: Work, pieces: Sequence[int]) -> None:
        self.work = work
        self.waiting = deque(pieces)
        self.left = len(pieces)
        self.results: dict[int, Any] = {}
        self.deaths: dict[int, int] = {}

    def add_result(self, piece: int, result: Any) -> None:
        """Stores the result of a finished piece."""
        self.results[piece] = result
        self.left -= 1


class _Worker:
    """One process, the pipe to it, and its current piece."""

    def __init__(self, threads: int) -> None:
        self.pipe, theirs = _SPAWN.Pipe()
        self.process: SpawnProcess = _SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
        with _environment(threads):
            self.process.start()
        theirs.close()
        self.piece: int | None = None

    def start_piece(self, queue: _Queue) -> None:
        """Sends the next piece to an idle worker. A broken pipe shows in `collect_result`."""
        if self.piece is None and queue.waiting:
            self.piece = queue.waiting.popleft()
            try:
                self.pipe.send((queue.work, self.piece))
            except OSError:
                self.process.join(1)

    def collect_result(self, queue: _Queue) -> bool:
        """Receives the result; returns False if the process died without one.

        Raises:
            SeqloomError: the error that the piece raised.
        """
        try:
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            return False
        if kind == "error":
            raise value
        assert self.piece is not None
        queue.add_result(self.piece, value)
        self.piece = None
        return True

    def requeue_piece(self, queue: _Queue, name: str) -> str:
        """Puts a dead worker's piece back into the queue and returns a message about its end.

        Raises:
            EngineError: workers died too often at this piece.
        """
        self.process.join()
        code = self.process.exitcode
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with {code}"
        if self.piece is None:
            return f"{name}: an idle worker was {how}; another one replaces it"
        deaths = queue.deaths[self.piece] = queue.deaths.get(self.piece, 0) + 1
        if deaths == ATTEMPTS:
            raise EngineError(
                f"{name}: {deaths} workers died at piece {self.piece}, the last was {how}; signal 9 "
                f"often means that memory ran out: use fewer workers or more shards"
            )
        queue.waiting.appendleft(self.piece)
        return f"{name}: the worker at piece {self.piece} was {how}; another one restarts the piece"

    def stop(self) -> None:
        """Kills the process."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _wait_for_any(workers: list[_Worker]) -> list[_Worker]:
    """Waits until a worker has answered or died; returns all that have."""
    ready = set(wait([worker.pipe for worker in workers]))
    return [worker for worker in workers if worker.pipe in ready]


def _serve(pipe: Connection) -> None:
    """Runs a worker's loop: receives pieces and sends results until the other end closes the pipe."""
    sys.stdout = sys.stderr  # standard output is reserved for the command's JSON document
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
            answer = ("error", EngineError(f"piece {piece} failed:\n{traceback.format_exc()}"))
        pipe.send(answer)


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Sets the number of threads for processes started within the block."""
    added = {key: str(threads) for key in _THREADS if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            del os.environ[key]
