"""Requests to OpenAI-compatible endpoints: address and key, rate limit, exponential backoff, deadline.

Base URL and key come from the environment. The key is sent in the request's header alone and stored nowhere;
redirects are not followed, so that no other endpoint receives it.
"""

from __future__ import annotations

import email.utils
import json
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from seqloom.core.errors import ConfigError, SeqloomError

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


@dataclass(frozen=True)
class AnswerLimits:
    """How much of an answer is waited for and read."""

    seconds: float
    """From the request to the last byte."""
    most_bytes: int = 1 << 20


def post_json(
    client: httpx.Client,
    url: str,
    body: dict[str, Any],
    policy: RetryPolicy,
    throttle: Throttle,
    where: str,
    secret: str | None = None,
    *,
    failed: type[SeqloomError],
    advice: str,
    limits: AnswerLimits | None = None,
) -> Any:
    """Sends a POST and returns its JSON answer; retries rate limits, server errors and broken connections.

    `where` names the service in errors, and `advice` says what to do; `secret` is replaced by *** in its
    answers.

    Raises:
        failed: the request is refused or fails after all retries, or the answer is not JSON.
    """
    for attempt in range(policy.retries + 1):
        throttle.wait()
        requested: float | None = None
        try:
            response = _send(client, url, body, limits)
        except (httpx.TimeoutException, httpx.TransportError) as error:
            failure = f"{type(error).__name__}: {error}"
        else:
            if response.is_success:
                return _json(response, where, failed)
            answer = " ".join(response.text.split())[:300]
            if secret:
                answer = answer.replace(secret, "***")
            failure = f"HTTP {response.status_code}: {answer}"
            if response.status_code not in _RETRIED and response.status_code < 500:
                raise failed(f"{where} refused the request ({failure})")
            requested = retry_after_s(response.headers.get("Retry-After"))
        if requested is not None and requested > policy.longest_wait_s:
            raise failed(f"{where} asks to wait {requested:.0f} s ({failure}); {advice}")
        if attempt < policy.retries:
            policy.sleep(requested if requested is not None else policy.wait_s(attempt))
    raise failed(
        f"{where} failed {policy.retries + 1} times, the last time with {failure}; {advice}"
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


def environment(names: Sequence[str]) -> str | None:
    """Returns the value of the first variable that is set."""
    return next((value for name in names if (value := os.environ.get(name))), None)


def endpoint_url(base: str | None, path: str, url_variable: str, key_variable: str) -> str:
    """Returns the URL of `path` under a base URL such as `http://host/v1` (or only `http://host`).

    Raises:
        ConfigError: there is no base URL, or it is not an http(s) URL; the message does not repeat it.
    """
    if not base:
        raise ConfigError(
            f"no endpoint is set; set {url_variable} to its base URL (such as https://host/v1) and, if it "
            f"needs a key, {key_variable} to the key"
        )
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{url_variable} is not an http or https URL (its scheme is {parts.scheme!r})"
        )
    whole = parts.path.rstrip("/") or "/v1"
    if not whole.endswith(path):
        whole += path
    return urlunsplit((parts.scheme, parts.netloc, whole, parts.query, ""))


def shown_url(url: str) -> str:
    """Returns a URL without user name, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def open_client(key: str | None, url: str, **options: Any) -> tuple[httpx.Client, str]:
    """Returns a client that authenticates by the key, else by the URL's user name and password, and the URL
    without these: httpx writes the URLs that it calls to its log."""
    parts = urlsplit(url)
    auth: Any = None
    if key:
        auth = bearer(key)
    elif parts.username is not None:
        auth = httpx.BasicAuth(unquote(parts.username), unquote(parts.password or ""))
    host = parts.netloc.rpartition("@")[2]
    plain = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    return httpx.Client(auth=auth, follow_redirects=False, **options), plain


def bearer(key: str) -> Callable[[httpx.Request], httpx.Request]:
    """Returns an authenticator that sends the key; it overrides a user name and password in the URL."""

    def authorise(request: httpx.Request) -> httpx.Request:
        request.headers["Authorization"] = f"Bearer {key}"
        return request

    return authorise


def _send(
    client: httpx.Client, url: str, body: dict[str, Any], limits: AnswerLimits | None
) -> httpx.Response:
    """Sends a request and reads the answer as far as the limits allow.

    Raises:
        httpx.TransportError: a limit is exceeded, or the connection broke.
    """
    if limits is None:
        return client.post(url, json=body)
    ends = time.monotonic() + limits.seconds
    with client.stream("POST", url, json=body, timeout=limits.seconds) as response:
        data = b""
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > limits.most_bytes:
                raise httpx.ReadError(f"the answer is longer than {limits.most_bytes} bytes")
            if time.monotonic() > ends:
                raise httpx.ReadTimeout(f"no complete answer within {limits.seconds:.1f} s")
    return httpx.Response(response.status_code, headers=_plain(response.headers), content=data)


def _plain(headers: httpx.Headers) -> dict[str, str]:
    """The headers that are read; the content was decoded."""
    return {name: headers[name] for name in ("Retry-After", "Content-Type") if name in headers}


def _json(response: httpx.Response, where: str, failed: type[SeqloomError]) -> Any:
    try:
        return json.loads(response.content)
    except ValueError:
        raise failed(f"{where} answered with text that is not JSON") from None
