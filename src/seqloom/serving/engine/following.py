"""Applies reloads that another server of the same store announced."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from seqloom.core.errors import SeqloomError, StoreError
from seqloom.serving.engine.observer import Observer
from seqloom.serving.store.base import Store

_LOG = logging.getLogger("seqloom.serving")


class ReloadFollower:
    """Polls the store for announced reloads every `every_s` seconds, and calls `reload` for each.

    Runs in its own thread: loading takes seconds, and catalogue changes must not wait for it. Earlier
    announcements are ignored.

    Raises:
        StoreError: the store does not answer.
    """

    def __init__(
        self, store: Store, reload: Callable[[], Any], every_s: float, observer: Observer
    ) -> None:
        self._store = store
        self._reload = reload
        self._every_s = every_s
        self._observer = observer
        self._seen = store.reloads()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="seqloom-follow", daemon=True)

    def start(self) -> None:
        """Starts polling."""
        self._thread.start()

    def announce(self) -> None:
        """Announces a reload that this server itself has done.

        Raises:
            StoreError: the store refuses.
        """
        with self._lock:
            number = self._store.announce_reload()
            # Where another server announced one in between, that one is still pending.
            if number == self._seen + 1:
                self._seen = number

    def close(self) -> None:
        """Stops polling, after a reload under way."""
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                due = self._is_due()
            except StoreError:
                self._observer.store_error("reading announced reloads")
                continue
            if due:
                self._carry_out()

    def _is_due(self) -> bool:
        with self._lock:
            number = self._store.reloads()
            due, self._seen = number != self._seen, number
        return due

    def _carry_out(self) -> None:
        try:
            self._reload()
        except SeqloomError as error:
            # The served runs stay; the next announcement tries again.
            _LOG.error("announced reload failed", extra={"fields": {"error": str(error)}})
        else:
            _LOG.info("reloaded as announced")
