"""Which connections stay: caps in all and per address, room for health checks, and who is too slow."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import resource
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Protocol

from seqloom.core.errors import ServingError
from seqloom.serving.config import ConnectionsConfig

_LOG = logging.getLogger("seqloom.serving")
AT_ONCE = 8
"""Connections that are accepted in one turn of the event loop, before any of them can be closed."""
_STORE_FILES = 16
"""Files of the store (connections, journals), of the log, and of a run that is loaded anew."""
_FILES_PER_THREAD = 3
"""SQLite's files of one reading thread."""
_SWEEPS = 4
"""Sweeps within the shortest timeout."""
_WARN_EVERY_S = 60.0


class Admitted(Protocol):
    """What the admission knows of a connection."""

    address: str | None
    """Of the client; None where it has none (a Unix socket)."""
    spare: str | None
    """None, or why the connection is one of those that may ask for the health endpoints alone."""

    def check_times(self, now: float, elapsed: float) -> None:
        """End the connection if it is too slow at `now`, `elapsed` seconds after the last call."""

    def abort(self) -> None:
        """Close the connection without finishing anything."""


class Observer(Protocol):
    """Who counts."""

    def connections(self, count: int) -> None:
        """How many connections there are."""

    def connection_ended(self, reason: str) -> None:
        """The server ended a connection."""


class Uncounted:
    """Counts nothing."""

    def connections(self, count: int) -> None:
        """See `Observer`."""

    def connection_ended(self, reason: str) -> None:
        """See `Observer`."""


@dataclass
class _Group:
    """Connections of one address, or all of them; those that wait for a request, the longest first."""

    count: int = 0
    waiting: dict[Admitted, None] = field(default_factory=dict)


class Admission:
    """The register of all connections of a server.

    A connection over a cap takes the place of the one that has waited longest for a request, of its own
    address or of all. Where every other has a request under way it becomes a spare one: it may ask for
    `/healthz` and `/readyz`, all else is refused with 503. Of the spare ones the oldest gives way.
    """

    def __init__(self, config: ConnectionsConfig, observer: Observer | None = None) -> None:
        self.config = config
        self.observer: Observer = observer or Uncounted()
        self.most = config.max_connections
        self.spares = max(4, min(64, self.most // 16))
        self._proxies = [ipaddress.ip_network(p, strict=False) for p in config.trusted_proxies]
        self._all, self._spare = _Group(), _Group()
        self._addresses: defaultdict[str, _Group] = defaultdict(_Group)
        self._held: dict[Admitted, list[_Group]] = {}
        self._warned = float("-inf")

    def fit_open_files(self) -> None:
        """Lower the cap to what the limit of open files leaves; what else is needed must be open already.

        Raises:
            ServingError: it leaves too few.
        """
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY:
            return
        threads = min(32, (os.cpu_count() or 1) + 4)  # asyncio's, which read from the store
        taken = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 64
        room = limit - taken - 2 * AT_ONCE - _STORE_FILES - _FILES_PER_THREAD * threads
        spares = max(4, min(64, room // 16))
        if room - spares < 8:
            raise ServingError(
                f"the limit of open files is {limit}, which leaves no room for connections; "
                f"raise it (`ulimit -n {limit - room + 1024}`, `LimitNOFILE=` in a systemd unit)"
            )
        if room - spares < self.most:
            _LOG.warning(  # before the log is JSON: the sentence has the numbers
                "fewer connections than configured: %d, not %d; the limit of open files is %d",
                room - spares, self.most, limit,
            )  # fmt: skip
            self.most, self.spares = room - spares, spares

    @property
    def per_address(self) -> int:
        """Most connections of one address."""
        return self.config.max_per_address or max(1, self.most // 2)

    def enter(self, connection: Admitted) -> None:
        """Take a connection in, as one of the spare ones where there is no other place."""
        group = self._group_of(connection.address)
        if group is not None and group.count >= self.per_address and not self._make_room(group):
            connection.spare = "too many connections of this address"
            self._warn(connection.address)
        elif self._all.count >= self.most and not self._make_room(self._all):
            connection.spare = "too many connections"
        if connection.spare is None:
            groups = [self._all] if group is None else [self._all, group]
        else:
            if self._spare.count >= self.spares and not self._make_room(self._spare):
                self._evict(next(e for e, held in self._held.items() if held[0] is self._spare))
            groups = [self._spare]
        for each in groups:
            each.count += 1
        self._held[connection] = groups
        self.waits(connection)
        self._count()

    def leave(self, connection: Admitted) -> None:
        """Forget a connection; no fault where it is forgotten already."""
        for group in self._held.pop(connection, ()):
            group.count -= 1
            group.waiting.pop(connection, None)
        if connection.address is not None:
            network = _network(connection.address)
            if network in self._addresses and not self._addresses[network].count:
                del self._addresses[network]
        self._count()

    def waits(self, connection: Admitted) -> None:
        """The connection waits for a request from now on."""
        for group in self._held.get(connection, ()):
            group.waiting[connection] = None

    def works(self, connection: Admitted) -> None:
        """The connection has a request under way."""
        for group in self._held.get(connection, ()):
            group.waiting.pop(connection, None)

    async def sweep(self) -> None:
        """End what is too slow, again and again, until cancelled."""
        config = self.config
        shortest = min(
            config.head_timeout_s, config.body_timeout_s, config.idle_timeout_s, config.send_timeout_s
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(min(1.0, shortest / _SWEEPS))
            now = loop.time()
            for connection in list(self._held):
                try:
                    connection.check_times(now, now - last)
                except Exception:  # the watch over all others must go on
                    _LOG.exception("a connection cannot be checked")
                    self.leave(connection)
                    connection.abort()
            last = now

    def _group_of(self, address: str | None) -> _Group | None:
        if address is None:
            return None
        if self._proxies and any(ipaddress.ip_address(address) in proxy for proxy in self._proxies):
            return None
        return self._addresses[_network(address)]

    def _make_room(self, group: _Group) -> bool:
        longest = next(iter(group.waiting), None)
        if longest is not None:
            self._evict(longest)
        return longest is not None

    def _evict(self, connection: Admitted) -> None:
        self.observer.connection_ended("evicted")
        self.leave(connection)
        connection.abort()

    def _count(self) -> None:
        self.observer.connections(self._all.count + self._spare.count)

    def _warn(self, address: str | None) -> None:
        """Say now and then that an address has all that it may have: it may be a proxy."""
        now = asyncio.get_running_loop().time()
        if address is None or now - self._warned < _WARN_EVERY_S:
            return
        self._warned = now
        # The address of a client is about a person; that of a proxy of one's own is private.
        shown = address if ipaddress.ip_address(address).is_private else "a public one"
        fields = {
            "address": shown,
            "most": self.per_address,
            "advice": "a proxy belongs into connections.trusted_proxies",
        }
        _LOG.warning("one address has all its connections", extra={"fields": fields})


def _network(address: str) -> str:
    """What counts as one address: of IPv6 a /64 network, which one client has to itself."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((found, 64), strict=False))
