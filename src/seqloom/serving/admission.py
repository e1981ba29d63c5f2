"""Admits connections: caps in total and per address, spare places for health checks, timeouts."""

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
"""Files of the store (connections, journals), of the log, and of a run that is reloaded."""
_FILES_PER_THREAD = 3
"""SQLite's files of one reading thread."""
_SWEEPS = 4
"""Sweeps within the shortest timeout."""
_WARN_EVERY_S = 60.0


class Admitted(Protocol):
    """A connection as the admission sees it."""

    address: str | None
    """Address of the client; None where it has none (a Unix socket)."""
    spare: str | None
    """Why the connection may request the health endpoints only; None for an ordinary one."""

    def check_times(self, now: float, elapsed: float) -> None:
        """Closes the connection if it is too slow at `now`, `elapsed` seconds after the last call."""

    def abort(self) -> None:
        """Closes the connection at once."""


class ConnectionObserver(Protocol):
    """Receives counts of connections."""

    def connections(self, count: int) -> None:
        """Receives the number of open connections."""

    def connection_ended(self, reason: str) -> None:
        """Receives the reason for which the server closed a connection."""


class Uncounted:
    """An observer that ignores all counts."""

    def connections(self, count: int) -> None:
        """See `ConnectionObserver`."""

    def connection_ended(self, reason: str) -> None:
        """See `ConnectionObserver`."""


@dataclass
class _Group:
    """Connections of one address or of all, and those that are idle, the longest idle first."""

    count: int = 0
    waiting: dict[Admitted, None] = field(default_factory=dict)


class Admission:
    """Registers all connections of a server and enforces their limits.

    A connection over a cap replaces the longest idle one, of its own address or of all. If no other is
    idle, it becomes a spare one: it may request `/healthz` and `/readyz`; other requests are refused with
    503. A new spare connection replaces the oldest one.
    """

    def __init__(
        self, config: ConnectionsConfig, observer: ConnectionObserver | None = None
    ) -> None:
        self.config = config
        self.observer: ConnectionObserver = observer or Uncounted()
        self.most = config.max_connections
        self.spares = max(4, min(64, self.most // 16))
        self._proxies = [ipaddress.ip_network(p, strict=False) for p in config.trusted_proxies]
        self._all, self._spare = _Group(), _Group()
        self._addresses: defaultdict[str, _Group] = defaultdict(_Group)
        self._held: dict[Admitted, list[_Group]] = {}
        self._warned = float("-inf")

    def fit_open_files(self) -> None:
        """Lowers the cap to what the limit of open files leaves. Call it when all other files are open.

        Raises:
            ServingError: it leaves too few.
        """
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY:
            return
        threads = min(32, (os.cpu_count() or 1) + 4)  # asyncio's threads, which read from the store
        taken = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 64
        room = limit - taken - 2 * AT_ONCE - _STORE_FILES - _FILES_PER_THREAD * threads
        spares = max(4, min(64, room // 16))
        if room - spares < 8:
            raise ServingError(
                f"the limit of open files is {limit}, which leaves no room for connections; "
                f"raise it (`ulimit -n {limit - room + 1024}`, `LimitNOFILE=` in a systemd unit)"
            )
        if room - spares < self.most:
            _LOG.warning(  # logged before JSON logs are configured, so the message holds the numbers
                "fewer connections than configured: %d, not %d; the limit of open files is %d",
                room - spares, self.most, limit,
            )  # fmt: skip
            self.most, self.spares = room - spares, spares

    @property
    def per_address(self) -> int:
        """The largest number of connections of one address."""
        return self.config.max_per_address or max(1, self.most // 2)

    def enter(self, connection: Admitted) -> None:
        """Admits a connection, as a spare one where no ordinary place is free."""
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
        """Removes a connection. Does nothing if it was removed before."""
        for group in self._held.pop(connection, ()):
            group.count -= 1
            group.waiting.pop(connection, None)
        if connection.address is not None:
            network = _network(connection.address)
            if network in self._addresses and not self._addresses[network].count:
                del self._addresses[network]
        self._count()

    def waits(self, connection: Admitted) -> None:
        """Marks the connection as idle."""
        for group in self._held.get(connection, ()):
            group.waiting[connection] = None

    def works(self, connection: Admitted) -> None:
        """Marks the connection as busy."""
        for group in self._held.get(connection, ()):
            group.waiting.pop(connection, None)

    async def sweep(self) -> None:
        """Closes slow connections periodically until cancelled."""
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
                except Exception:  # the other connections must still be checked
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
        """Warns, at a limited rate, that an address is at its cap: it may be a proxy."""
        now = asyncio.get_running_loop().time()
        if address is None or now - self._warned < _WARN_EVERY_S:
            return
        self._warned = now
        # The address of a client is personal data; that of the operator's own proxy is private.
        shown = address if ipaddress.ip_address(address).is_private else "a public one"
        fields = {
            "address": shown,
            "most": self.per_address,
            "advice": "list a proxy in connections.trusted_proxies",
        }
        _LOG.warning("one address is at its limit of connections", extra={"fields": fields})


def _network(address: str) -> str:
    """Returns the key of an address: for IPv6 its /64 network, which belongs to one client."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((parsed, 64), strict=False))
