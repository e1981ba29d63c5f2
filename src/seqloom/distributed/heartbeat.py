"""Heartbeats between processes that train together, so that none waits for a dead one."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

_BEAT_S = 5.0
_SILENT_S = 30.0


class Heartbeat:
    """A thread that increments a counter in a shared store and ends this process when another is silent.

    A killed process closes its connections, which the others notice at their next exchange. A process that
    hangs, or whose host fails, does not, and a process that waits for an exchange cannot check. So a
    thread checks; all it can do is end the process, as the main thread may be in a call that never returns.
    """

    def __init__(self, store: Any, rank: int, size: int, *, silent_s: float = _SILENT_S) -> None:
        """`store` is a `torch.distributed` store that no other thread uses."""
        self._store = store
        self._rank, self._size = rank, size
        self._silent_s = silent_s
        self._stop = threading.Event()
        self._beat(0)
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Starts checking the others. Call it after all processes have created their heartbeat."""
        self._thread.start()

    def stop(self) -> None:
        """Stops checking. The others must stop too, or they take this process for dead."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _beat(self, count: int) -> None:
        self._store.set(f"alive/{self._rank}", str(count))

    def _run(self) -> None:
        others = [rank for rank in range(self._size) if rank != self._rank]
        last_beats = {rank: (b"", time.monotonic()) for rank in others}
        count = 0
        while not self._stop.wait(_BEAT_S):
            count += 1
            try:
                self._beat(count)
                beats = self._store.multi_get([f"alive/{rank}" for rank in others])
            except RuntimeError:
                self._end("the process that hosts the store is gone")
            now = time.monotonic()
            for rank, beat in zip(others, beats, strict=True):
                if beat != last_beats[rank][0]:
                    last_beats[rank] = beat, now
                elif now - last_beats[rank][1] > self._silent_s:
                    self._end(f"process {rank} has been silent for {self._silent_s:.0f} s")

    def _end(self, reason: str) -> None:
        """Prints the reason and ends this process, unless the heartbeat was stopped."""
        if self._stop.is_set():
            return
        print(f"error: process {self._rank} of {self._size}: {reason}\n  {ADVICE}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)


ADVICE = (
    "It was killed, hangs, or its host failed; its own output may say why. Restart all processes with "
    "--resume to continue from the last checkpoint."
)
