"""Access tokens: creation, verification, rate limits. Only a hash of the secret is stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from typing import Final, Literal, get_args

from seqloom.core.errors import ConfigError
from seqloom.serving.store.base import Store, TokenRecord

Scope = Literal["read", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
_PREFIX = "seqloom"
_NAME_LENGTH = 100


def create_token(
    store: Store,
    name: str,
    scopes: Sequence[str],
    *,
    days: float | None = None,
    rate: float | None = None,
) -> tuple[TokenRecord, str]:
    """Creates a token, stores its hash, and returns the record and the token.

    `days` is the lifetime, `rate` the allowed requests per second.

    Raises:
        ConfigError: the name is empty or too long, or scopes are unknown or missing.
        StoreError: the store refuses.
    """
    if not name.strip() or len(name) > _NAME_LENGTH or not name.isprintable():
        raise ConfigError(f"a token needs a name of 1 to {_NAME_LENGTH} printable characters")
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        listed = ", ".join(map(repr, unknown)) or "none"
        raise ConfigError(f"scopes of a token: found {listed}; allowed: {', '.join(SCOPES)}")
    secret = secrets.token_urlsafe(32)
    created = int(time.time())
    record = TokenRecord(
        token_id=secrets.token_hex(6),
        name=name,
        secret_sha256=_digest(secret),
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        created=created,
        expires=None if days is None else created + int(days * 86400),
        rate=rate,
    )
    store.put_token(record)
    return record, f"{_PREFIX}_{record.token_id}_{secret}"


def token_id(token: str) -> str | None:
    """Returns the public part of a token; None for other strings."""
    parts = token.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == _PREFIX else None


def matches(token: str, record: TokenRecord, now: float) -> bool:
    """Returns whether `token` matches `record` and has not expired."""
    secret = token.split("_", 2)[-1]
    same = hmac.compare_digest(_digest(secret), record.secret_sha256)
    return same and (record.expires is None or now < record.expires)


class Bucket:
    """A token bucket: `rate` requests per second, with bursts up to its capacity.

    A batch of any size passes if the bucket is not negative. Its requests are taken from the bucket, which
    may become negative; later requests wait until the rate has refilled it.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = max(rate, 1.0)
        self._left = self._most
        self._seen = float("-inf")

    def take(self, now: float) -> float:
        """Takes one request at second `now`; returns 0, or the seconds to wait."""
        self._left = min(self._most, self._left + max(0.0, now - self._seen) * self._rate)
        self._seen = now
        if self._left < 1.0:
            return (1.0 - self._left) / self._rate
        self._left -= 1.0
        return 0.0

    def take_more(self, count: float) -> float:
        """Takes `count` more for a batch that `take` admitted; returns 0, or the seconds to wait.

        Of batches that were admitted together, one that meets a negative bucket returns its request.
        """
        if self._left < 0.0:
            self._left += 1.0
            return (1.0 - self._left) / self._rate
        self._left -= count
        return 0.0


def _digest(secret: str) -> str:
    # The secret is 256 random bits: a slow password hash would add nothing.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
