"""Authorization: bearer tokens, scopes, rates, and the origins allowed without tokens."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from fastapi import Request

from seqloom.core.errors import ConfigError, StoreError
from seqloom.serving.config import ServerConfig
from seqloom.serving.http.problems import ProblemError
from seqloom.serving.store.base import Store, TokenRecord
from seqloom.serving.tokens import Bucket, Scope, matches, token_id

_LOG = logging.getLogger("seqloom.serving")
_REFRESH_S = 2.0
"""A revoked token is refused, and a new one accepted, after this many seconds."""
_STALE_S = 60.0
"""How long cached tokens stay valid while the store does not answer."""
_PROTECTED = ("/v1/", "/metrics")


def needs_tokens(config: ServerConfig) -> bool:
    """Returns whether requests must carry a token.

    Raises:
        ConfigError: tokens are off although the server listens beyond loopback.
    """
    if config.auth is not None:
        if not config.auth and not is_loopback(config.host):
            raise ConfigError(
                f"the server would listen without tokens on {config.host}, which others can reach; "
                "leave --no-auth out and make tokens with `seqloom token create`, or listen on "
                "127.0.0.1"
            )
        return config.auth
    return not is_loopback(config.host)


def is_loopback(host: str) -> bool:
    """Returns whether a host name or address is this machine."""
    name = host.strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Authorizer:
    """Checks a request before its body is read."""

    def __init__(self, store: Store, config: ServerConfig) -> None:
        self.required = needs_tokens(config)
        self._store = store
        self._rate = config.limits.rate_per_s
        self._records: Mapping[str, TokenRecord] = {}
        self._read_at = self._tried_at = float("-inf")
        self._buckets: dict[str, tuple[float, Bucket]] = {}
        self._reading = asyncio.Lock()

    async def admit(self, path: str, headers: Mapping[str, str]) -> TokenRecord | None:
        """Returns the token of a request; None where no token is needed.

        Raises:
            ProblemError: 401, 403 or 429.
        """
        if not self.required:
            _check_origin(headers)
            return None
        if not path.startswith(_PROTECTED):
            return None
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise _unauthorized("Send a token: `Authorization: Bearer TOKEN`.")
        await self._refresh()
        record = self._records.get(token_id(token.strip()) or "")
        if record is None or not matches(token.strip(), record, time.time()):
            raise _unauthorized("The token is unknown, revoked or expired.")
        self._limit(record)
        return record

    def charge(self, record: TokenRecord | None, count: int) -> None:
        """Charges the other requests of a batch. The bucket of the token may become negative.

        Raises:
            ProblemError: 429.
        """
        if record is not None and count > 1:
            rate, bucket = self._bucket(record)
            _refuse(record, rate, bucket.take_more(count - 1))

    def _limit(self, record: TokenRecord) -> None:
        rate, bucket = self._bucket(record)
        _refuse(record, rate, bucket.take(time.monotonic()))

    def _bucket(self, record: TokenRecord) -> tuple[float, Bucket]:
        rate = record.rate or self._rate
        held = self._buckets.get(record.token_id)
        if held is None or held[0] != rate:
            held = self._buckets[record.token_id] = (rate, Bucket(rate))
        return held

    async def _refresh(self) -> None:
        if time.monotonic() - self._tried_at < _REFRESH_S:
            return
        async with self._reading:
            now = time.monotonic()
            if now - self._tried_at < _REFRESH_S:
                return
            try:
                records = await asyncio.to_thread(self._store.tokens)
            except StoreError as error:
                if now - self._read_at > _STALE_S:
                    raise
                _LOG.error("tokens cannot be read", extra={"fields": {"error": str(error)}})
            else:
                self._records = {record.token_id: record for record in records}
                self._buckets = {k: b for k, b in self._buckets.items() if k in self._records}
                self._read_at = now
            self._tried_at = now


class RequireScope:
    """A dependency of an endpoint: the caller's token must have the scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> None:
        """Raises `ProblemError` 403 where the token lacks the scope."""
        record: TokenRecord | None = request.state.token
        if record is not None and self.scope not in record.scopes:
            raise ProblemError(
                403, "scope", "The token lacks a scope",
                f"Needed: {self.scope}; the token {record.name!r} has {', '.join(record.scopes)}.",
            )  # fmt: skip


def caller(request: Any) -> str:
    """Returns the id of the caller, which separates the idempotency keys of callers."""
    record: TokenRecord | None = request.state.token
    return "" if record is None else record.token_id


def _check_origin(headers: Mapping[str, str]) -> None:
    """Refuses pages of other sites, which could reach a server without tokens through a user's browser."""
    host = headers.get("host", "localhost").rsplit("@", 1)[-1]
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if not is_loopback(name):
        raise ProblemError(
            421, "host", "This server has no such name",
            "Without tokens the server answers only to loopback names such as localhost.",
        )  # fmt: skip
    if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise ProblemError(
            403, "cross-site", "Cross-site requests are refused",
            "Without tokens the server answers only to its own pages.",
        )  # fmt: skip


def _refuse(record: TokenRecord, rate: float, wait_s: float) -> None:
    """Raises `ProblemError` 429 where the token must wait."""
    if wait_s:
        seconds = max(1, math.ceil(wait_s))
        raise ProblemError(
            429, "rate", "Too many requests",
            f"The token {record.name!r} may make {rate:g} requests a second, each request of a batch "
            f"counted; try again in {seconds} s.",
            headers={"Retry-After": str(seconds)},
        )  # fmt: skip


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(
        401, "token", "A valid token is needed", detail, headers={"WWW-Authenticate": "Bearer"}
    )
