"""Requests to a remote service with a rate limit and exponential backoff."""

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
    """How often to retry, and how long to wait between attempts."""

    retries: int = 6
    """Attempts after the first."""
    first_wait_s: float = 1.0
    """The first pause; each next one is twice as long, plus up to a quarter at random."""
    longest_wait_s: float = 120.0
    """Limit of a pause; a server that requests a longer one (Retry-After) ends the run."""
    timeout_s: float = 60.0
    """Timeout of one request."""
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def wait_s(self, attempt: int) -> float:
        """Returns the pause after failed attempt number `attempt` (from 0)."""
        pause = min(self.first_wait_s * 2**attempt, self.longest_wait_s)
        return pause * (1 + random.random() / 4)


class Throttle:
    """Limits the rate of requests: spaces their starts evenly, over all threads."""

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
        """Blocks until the next request may start."""
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
    """Sends a POST and returns its JSON answer; retries rate limits, server errors and broken connections.

    `where` names the service in errors; `secret` is replaced by *** in its answers.

    Raises:
        EmbeddingError: the request is refused or fails after all retries, or the answer is not JSON.
    """
    for attempt in range(policy.retries + 1):
        throttle.wait()
        requested: float | None = None
        try:
            response = client.post(url, json=body)
        except (httpx.TimeoutException, httpx.TransportError) as error:
            failure = f"{type(error).__name__}: {error}"
        else:
            if response.is_success:
                return _json(response, where)
            answer = " ".join(response.text.split())[:300]
            if secret:
                answer = answer.replace(secret, "***")
            failure = f"HTTP {response.status_code}: {answer}"
            if response.status_code not in _RETRIED and response.status_code < 500:
                raise EmbeddingError(f"{where} refused the request ({failure})")
            requested = retry_after_s(response.headers.get("Retry-After"))
        if requested is not None and requested > policy.longest_wait_s:
            raise EmbeddingError(
                f"{where} asks to wait {requested:.0f} s ({failure}); run the same command again after "
                f"that, finished texts are kept"
            )
        if attempt < policy.retries:
            policy.sleep(requested if requested is not None else policy.wait_s(attempt))
    raise EmbeddingError(
        f"{where} failed {policy.retries + 1} times, the last time with {failure}; run the same command "
        f"again when it is available, finished texts are kept"
    )


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """Returns the seconds that a Retry-After header requests (a number or a date), or None."""
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
        raise EmbeddingError(f"{where} answered with text that is not JSON") from None
