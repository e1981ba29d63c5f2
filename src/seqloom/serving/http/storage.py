"""Calls the store from the event loop in threads, and counts failures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from seqloom.core.errors import StoreError
from seqloom.serving.engine.scheduler import OverloadedError
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.store.base import Store

T = TypeVar("T")
_WRITERS = 32
_MOST_WAITING = 1024
"""Most waiting writes. A further one is refused immediately with 503."""
_PATIENCE_S = 3.0
"""How long a write may wait for a thread. The time of the write itself is bounded by the store."""
_PROBE_EVERY_S = 1.0


class Storage:
    """Runs reads and writes in separate threads, so that blocked writes leave threads for reads."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._writers: ThreadPoolExecutor | None = None
        self._waiting = 0
        self._probing = asyncio.Lock()
        self._probed_at = float("-inf")
        self._refused = ""

    async def read(self, what: str, call: Callable[..., T], *arguments: object) -> T:
        """Runs `call`, which reads the store; `what` names it in the metrics.

        Raises:
            StoreError: the store does not answer.
        """
        try:
            return await asyncio.to_thread(call, *arguments)
        except StoreError:
            self._metrics.store_error(what)
            raise

    async def write(self, what: str, call: Callable[..., T], *arguments: object) -> T:
        """Runs `call`, which writes to the store; `what` names it in the metrics.

        Raises:
            OverloadedError: too many writes are waiting.
            StoreError: the store refuses, or earlier writes held all threads for too long.
        """
        if self._waiting >= _MOST_WAITING:
            raise OverloadedError(f"{self._waiting} writes wait for the store; try again soon")
        deadline = time.monotonic() + _PATIENCE_S

        def in_time() -> T:
            if time.monotonic() > deadline:
                raise StoreError("earlier writes have not ended; this one was not started")
            return call(*arguments)

        if self._writers is None:  # an application may be restarted after its end
            self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="seqloom-store-write")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writers, in_time)
        except StoreError:
            self._metrics.store_error(what)
            raise
        finally:
            self._waiting -= 1

    async def ready(self) -> None:
        """Returns if the store answers and takes writes. Tries a write at most every second.

        Raises:
            StoreError: it does not.
        """
        await self.read("ping", self._store.ping)
        async with self._probing:
            if time.monotonic() - self._probed_at > _PROBE_EVERY_S:
                try:
                    await self.write("probe", self._store.probe)
                    self._refused = ""
                except StoreError as error:
                    self._refused = str(error)
                self._probed_at = time.monotonic()
            if self._refused:
                raise StoreError(self._refused)

    def close(self) -> None:
        """Ends the threads; current writes finish by themselves."""
        if self._writers is not None:
            self._writers.shutdown(wait=False)
            self._writers = None
