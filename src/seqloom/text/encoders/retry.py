"""Patience with a remote service: a rate limit, and retries that grow apart."""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from seqloom.core.errors import EmbeddingError

_RETRIED = {408, 409, 425, 429}


@dataclass(frozen=True)
class RetryPolicy:
    """When to give up, and how long to wait before."""

    retries: int = 6
    """Attempts after the first."""
    first_wait_s: float = 1.0
    """The first pause; each next one is twice as long, with up to a quarter more at random."""
    longest_wait_s: float = 120.0
    """No pause is longer; a server that asks (Retry-After) for more ends the run."""
    timeout_s: float = 60.0
    """Of one request."""
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def wait_s(self, attempt: int) -> float:
        """The pause after failed attempt number `attempt` (from 0)."""
        pause = min(self.first_wait_s * 2**attempt, self.longest_wait_s)
        return pause * (1 + random.random() / 4)


class Throttle:
    """Spaces the starts of requests evenly over time, over all threads."""

    def __init__(
        self,
        per_minute: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap_s = 60.0 / per_minute if per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next request may start."""
        if not self._gap_s:
            return
        with self._lock:
            now = self._clock()
            start = max(now, self._next)
            self._next = start + self._gap_s
        if start > now:
            self._sleep(start - now)


def post_json(
    client: httpx.Client,
    url: str,
    body: dict[str, Any],
    policy: RetryPolicy,
    throttle: Throttle,
    where: str,
    secret: str | None = None,
) -> Any:
    """The JSON answer to a POST; rate limits, server faults and broken connections are retried.

    `where` names the service in errors; `secret` is blotted out of what the service says.

    Raises:
        EmbeddingError: refused, given up after all retries, or the answer is no JSON.
    """
    for attempt in range(policy.retries + 1):
        throttle.wait()
        asked: float | None = None
        try:
            response = client.post(url, json=body)
        except (httpx.TimeoutException, httpx.TransportError) as error:
            failure = f"{type(error).__name__}: {error}"
        else:
            if response.is_success:
                return _json(response, where)
            said = " ".join(response.text.split())[:300]
            if secret:
                said = said.replace(secret, "***")
            failure = f"HTTP {response.status_code}: {said}"
            if response.status_code not in _RETRIED and response.status_code < 500:
                raise EmbeddingError(f"{where} refused the request ({failure})")
            asked = retry_after_s(response.headers.get("Retry-After"))
        if asked is not None and asked > policy.longest_wait_s:
            raise EmbeddingError(
                f"{where} asks to wait {asked:.0f} s ({failure}); run the same command again then, "
                f"finished texts are kept"
            )
        if attempt < policy.retries:
            policy.sleep(asked if asked is not None else policy.wait_s(attempt))
    raise EmbeddingError(
        f"{where} failed {policy.retries + 1} times, the last with {failure}; run the same command "
        f"again when it is back, finished texts are kept"
    )


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for (a number or a date), or None."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


def _json(response: httpx.Response, where: str) -> Any:
    try:
        return response.json()
    except ValueError:
        raise EmbeddingError(f"{where} answered with something that is no JSON") from None
