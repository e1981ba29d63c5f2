"""Micro-batching: answers requests that wait at the same time as one batch.

Each model has a lane, a bounded queue. A free worker takes the lane whose oldest request has waited
longest, with up to a batch of its requests. Under load, batches fill while the workers are busy. A short
wait for more requests is added only if the last batch had more than one, so a single request on an idle
server never waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from seqloom.core.errors import ServingError
from seqloom.serving.config import EngineConfig

Handler = Callable[[Sequence[Any]], Sequence[Any]]
"""Answers a batch: for each payload a result or its own exception."""


class OverloadedError(ServingError):
    """The queue is full."""


class ClosedError(ServingError):
    """The server is shutting down."""


@dataclass(slots=True)
class _Job:
    payload: Any
    future: Future[Any]
    queued: float


@dataclass(eq=False)
class Lane:
    """The queue of one model."""

    name: str
    handle: Handler
    max_batch: int
    serial: bool = False
    """Whether one batch at a time may run."""
    jobs: deque[_Job] = field(default_factory=deque)
    running: int = 0
    in_company: bool = False
    """Whether the last batch held more than one request."""


BatchSeen = Callable[[str, int, float, float], None]
"""Called after each batch: lane, size, seconds that the oldest waited, seconds it took."""


class Scheduler:
    """Runs worker threads over lanes, and calls `seen` after each batch."""

    def __init__(self, config: EngineConfig, workers: int, seen: BatchSeen) -> None:
        self._config = config
        self._seen = seen
        self._lanes: list[Lane] = []
        self._changed = threading.Condition()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"seqloom-worker-{n}", daemon=True)
            for n in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def add(self, lane: Lane) -> None:
        """Opens a lane."""
        with self._changed:
            self._lanes.append(lane)

    def submit(self, lane: Lane, payload: Any) -> Future[Any]:
        """Queues a request. Cancelling the future removes it as long as no worker has it.

        Raises:
            OverloadedError: the lane is full.
            ClosedError: the server is shutting down.
        """
        future: Future[Any] = Future()
        with self._changed:
            if self._closing:
                raise ClosedError("the server is shutting down; ask another one")
            if len(lane.jobs) >= self._config.max_queue:
                raise OverloadedError(
                    f"{len(lane.jobs)} requests wait for model {lane.name!r} already; try again soon"
                )
            lane.jobs.append(_Job(payload, future, time.perf_counter()))
            self._changed.notify()
        return future

    def waiting(self) -> dict[str, int]:
        """Counts the requests that wait, by lane."""
        return {lane.name: len(lane.jobs) for lane in self._lanes}

    def close(self) -> None:
        """Refuses new requests, answers the queued ones, ends the workers."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                batch = self._take()
                while batch is None:
                    if self._closing and not any(lane.jobs for lane in self._lanes):
                        return
                    self._changed.wait(self._patience())
                    batch = self._take()
            lane, jobs = batch
            try:
                self._answer(lane, jobs)
            finally:
                with self._changed:
                    lane.running -= 1
                    if lane.jobs or self._closing:
                        self._changed.notify()

    def _take(self) -> tuple[Lane, list[_Job]] | None:
        """Takes the batch that is due, if any. Called with the lock held."""
        now = time.perf_counter()
        due = [lane for lane in self._lanes if lane.jobs and self._wait_left(lane, now) <= 0]
        if not due:
            return None
        lane = min(due, key=lambda lane: lane.jobs[0].queued)
        jobs: list[_Job] = []
        while lane.jobs and len(jobs) < lane.max_batch:
            jobs.append(lane.jobs.popleft())
        lane.in_company = len(jobs) > 1
        lane.running += 1
        return lane, jobs

    def _wait_left(self, lane: Lane, now: float) -> float:
        """Returns the seconds until the lane's batch is due; infinite while it must not run."""
        if lane.serial and lane.running:
            return float("inf")
        if self._closing or not lane.in_company or len(lane.jobs) >= lane.max_batch:
            return 0.0
        return lane.jobs[0].queued + self._config.max_wait_ms / 1000 - now

    def _patience(self) -> float | None:
        now = time.perf_counter()
        left = [self._wait_left(lane, now) for lane in self._lanes if lane.jobs]
        soonest = min(left, default=float("inf"))
        return None if soonest == float("inf") else max(soonest, 1e-5)

    def _answer(self, lane: Lane, jobs: list[_Job]) -> None:
        started = time.perf_counter()
        waited = started - jobs[0].queued
        live = [job for job in jobs if job.future.set_running_or_notify_cancel()]
        if not live:
            return
        try:
            results: Sequence[Any] = lane.handle([job.payload for job in live])
        except Exception as error:
            results = [error] * len(live)
        self._seen(lane.name, len(live), waited, time.perf_counter() - started)
        for job, result in zip(live, results, strict=True):
            if isinstance(result, BaseException):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
