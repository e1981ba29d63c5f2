"""Clients of a served run that record every answer, to compare them with the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

USER = "load"
"""Whose events are posted; an event's item is its name."""


@dataclass(frozen=True)
class Answer:
    """One request."""

    kind: str
    name: str
    status: int
    """0 where the connection failed."""
    began: float
    """By `time.monotonic`."""
    ended: float
    error: str = ""
    """Of the connection."""

    @property
    def ok(self) -> bool:
        return self.status == 200


class Clients:
    """One thread a client, each with one request under way, from the start to the end of a `with` block.

    `kinds`: "bare" posts events, "keyed" posts them with an Idempotency-Key, "list" asks for a list.
    """

    def __init__(self, url: str, kinds: Sequence[str]) -> None:
        self.answers: list[Answer] = []
        """What has been answered so far."""
        self._url = url
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(kind, f"{kind}-{number}"))
            for number, kind in enumerate(kinds)
        ]

    def __enter__(self) -> Clients:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, when every client has its last answer."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def until(self, count: int, since: float = 0.0, patience_s: float = 300) -> None:
        """Wait until every client has had so many good answers to what it began after `since`.

        Raises:
            TimeoutError: they do not come.
        """
        ends = time.monotonic() + patience_s
        while time.monotonic() < ends:
            good: dict[str, int] = {}
            for each in list(self.answers):
                if each.ok and each.began >= since:
                    client = each.name.rpartition("-")[0]
                    good[client] = good.get(client, 0) + 1
            if len(good) == len(self._threads) and min(good.values()) >= count:
                return
            time.sleep(0.02)
        raise TimeoutError(f"after {patience_s:g} s some clients have no {count} good answers")

    def failed(self, kind: str) -> list[Answer]:
        """Requests of a kind that had no good answer."""
        return [each for each in self.answers if each.kind == kind and not each.ok]

    def events(self, *, acknowledged: bool) -> set[str]:
        """The items of all events that were sent, or of the acknowledged ones alone."""
        posts = [each for each in self.answers if each.kind != "list"]
        return {each.name for each in posts if each.ok or not acknowledged}

    def _run(self, kind: str, client_name: str) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            number = 0
            while not self._ended.is_set():
                number += 1
                name, began, error = f"{client_name}-{number}", time.monotonic(), ""
                try:
                    status = _send(client, kind, name)
                except httpx.HTTPError as broken:
                    status, error = 0, repr(broken)
                self.answers.append(Answer(kind, name, status, began, time.monotonic(), error))


def _send(client: httpx.Client, kind: str, name: str) -> int:
    if kind == "list":
        return client.post("/v1/recommend", json={"user_id": USER, "k": 10}).status_code
    headers = {"Idempotency-Key": name} if kind == "keyed" else None
    body = {"events": [{"user_id": USER, "item_id": name}]}
    return client.post("/v1/events", json=body, headers=headers).status_code
