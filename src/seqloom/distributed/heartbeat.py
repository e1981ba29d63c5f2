"""Processes that work together tell each other that they live, so that none waits for a dead one."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

_BEAT_S = 5.0
_SILENT_S = 30.0


class Heartbeat:
    """A thread that counts up in a store all processes read, and ends this process when another is silent.

    A killed process closes its connections, which the others notice at their next exchange. One that
    hangs, or whose host is gone, does not; and a process that waits for an exchange cannot look. So a
    thread looks, and it can only end the process: the main thread may be in a call that never returns.
    """

    def __init__(self, store: Any, rank: int, size: int, *, silent_s: float = _SILENT_S) -> None:
        """`store` is a `torch.distributed` store of this thread's own."""
        self._store = store
        self._rank, self._size = rank, size
        self._silent_s = silent_s
        self._stop = threading.Event()
        self._beat(0)
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to look; when all have made theirs."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking. The others are not to look any longer either."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _beat(self, count: int) -> None:
        self._store.set(f"alive/{self._rank}", str(count))

    def _run(self) -> None:
        others = [rank for rank in range(self._size) if rank != self._rank]
        heard = {rank: (b"", time.monotonic()) for rank in others}
        count = 0
        while not self._stop.wait(_BEAT_S):
            count += 1
            try:
                self._beat(count)
                beats = self._store.multi_get([f"alive/{rank}" for rank in others])
            except RuntimeError:
                self._end("the process that keeps them together is gone")
            now = time.monotonic()
            for rank, beat in zip(others, beats, strict=True):
                if beat != heard[rank][0]:
                    heard[rank] = beat, now
                elif now - heard[rank][1] > self._silent_s:
                    self._end(f"process {rank} has said nothing for {self._silent_s:.0f} s")

    def _end(self, what: str) -> None:
        if self._stop.is_set():
            return
        print(f"error: process {self._rank} of {self._size}: {what}\n  {ADVICE}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)


ADVICE = (
    "It was killed, hangs, or its host is gone; its own output may say why. Start all of them again with "
    "--resume to go on from the last checkpoint."
)
