"""Accepts connections, a few per turn of the event loop.

asyncio and uvloop accept all waiting connections before any can be closed, so a burst could exhaust the
open files of the process.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from seqloom.serving.admission import AT_ONCE

_LOG = logging.getLogger("seqloom.serving")
_PAUSE_S = 0.1


class Acceptor:
    """Hands the connections of a listening socket to protocols that `factory` makes."""

    def __init__(self, listening: socket.socket, factory: Callable[[], asyncio.Protocol]) -> None:
        listening.setblocking(False)
        self._socket = listening
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._resume()

    def close(self) -> None:
        """Stops accepting. The caller closes the socket."""
        self._closed = True
        self._loop.remove_reader(self._socket)

    def _resume(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except (
                OSError
            ) as error:  # no files or no memory left: waiting connections stay in the backlog
                _LOG.error("cannot accept", extra={"fields": {"error": str(error)}})
                self._loop.remove_reader(self._socket)
                self._loop.call_later(_PAUSE_S, self._resume)
                return
            accepted.setblocking(False)
            task = self._loop.create_task(self._open(accepted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, accepted)
        except OSError:  # the client has disconnected
            accepted.close()
