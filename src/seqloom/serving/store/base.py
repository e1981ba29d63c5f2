"""What a server remembers: users' histories, the live catalogue, access tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

UNKNOWN_TIME: Final = -(2**62)
"""Stands for a time that is not known; older than every known one."""
RECEIPT_LIFETIME_S: Final = 24 * 3600
"""How long an idempotency key is remembered."""


@dataclass(frozen=True, slots=True)
class Event:
    """One interaction."""

    user_id: str
    item_id: str
    timestamp: int = UNKNOWN_TIME
    """Seconds since 1970. A history is ordered by it, and by arrival where it is equal."""
    occurrence: int = 0
    """Of an imported event without a time: how often the user had the item before it."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What makes a retried request safe: it is answered again and not done again."""

    key: str
    """The caller's key, unique among all callers."""
    fingerprint: str
    """SHA-256 of the request: the same key with another request is a fault of the caller."""
    reply: str
    """The answer, as it was given."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of appended events."""

    new: int
    """Events that were not there before."""
    earlier: Receipt | None = None
    """The receipt of the first request with the same key; `new` is then of that request."""


@dataclass(frozen=True, slots=True)
class LiveItem:
    """A change of the catalogue since training: an item put in, described anew, or taken out."""

    item_id: str
    attributes: dict[str, str] = field(default_factory=dict)
    """Its text by column."""
    removed: bool = False
    """Never recommended; histories may still hold it."""
    vectors: dict[str, bytes] = field(default_factory=dict)
    """Text embeddings by the encoder's key, float32, so that a restart embeds nothing."""
    version: int = 0
    """Rises with every change of the catalogue; set by the store."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A bearer token as it is kept: the secret itself is not."""

    token_id: str
    name: str
    secret_sha256: str
    scopes: tuple[str, ...]
    created: int
    """Seconds since 1970."""
    expires: int | None = None
    """Seconds since 1970; None never."""
    rate: float | None = None
    """Requests a second; None takes the server's default."""


class Store(Protocol):
    """Where a server keeps what must survive it. Every method is safe to call from any thread.

    An event is known by its user, item and time: the same event counts once, however often and by
    whichever door it comes. The store itself sees to it, also between servers that write at once.

    Raises (every method):
        StoreError: the database cannot be reached or refuses.
    """

    name: str
    """The kind, for messages and metrics."""
    where: str
    """Kind and place, for messages; without secrets."""

    def append(self, events: Sequence[Event], receipt: Receipt | None = None) -> Appended:
        """Keep `events`, all or none. When this returns they are on disk.

        Where `receipt.key` was used before, nothing is appended and the earlier receipt is returned.
        """

    def histories(self, users: Sequence[str], limit: int) -> dict[str, list[str]]:
        """The last `limit` item ids of each user, oldest first; users without events are left out."""

    def export(self, user_id: str) -> list[Event]:
        """Everything kept of a user, oldest first."""

    def erase(self, user_id: str) -> int:
        """Forget a user; returns the number of events that were kept.

        The moment is recorded under a hash of the user's id: no import brings back an event that is
        not later than it, or that has no time. What is appended afterwards counts.
        """

    def find_users(self, prefix: str, limit: int) -> list[str]:
        """Ids that start with `prefix`, in order."""

    def imported(self, source: str) -> bool:
        """Whether `import_events` of that source has ended."""

    def import_events(self, source: str, chunks: Iterable[Sequence[Event]]) -> int:
        """Keep a data set's events; returns how many were new, 0 where the import was done before.

        Each chunk is kept on its own and holds users whole. An import that was cut off is done again.
        An event without a time is the same as one of that user and item that is there already,
        whatever its time: its n-th occurrence is new where fewer than n are there. An event with a
        time takes the place of those of that user and item that were imported without one.
        """

    def lineage(self) -> str | None:
        """What `set_lineage` kept, None in a store without."""

    def set_lineage(self, text: str, expected: str | None) -> bool:
        """Keep what the store knows of its data sets where it still is `expected`; says whether."""

    def put_item(self, item: LiveItem) -> int:
        """Keep a change of the catalogue; gives its version."""

    def items_since(self, version: int) -> list[LiveItem]:
        """The latest change of every item changed after `version`, in the order of their versions."""

    def announce_reload(self) -> int:
        """Tell every server of this store to load its runs anew; gives the announcement's number."""

    def reloads(self) -> int:
        """The number of the last announced reload, 0 where there was none."""

    def put_token(self, token: TokenRecord) -> None:
        """Keep a token."""

    def tokens(self) -> list[TokenRecord]:
        """All tokens, the oldest first."""

    def revoke_token(self, token_id: str) -> bool:
        """Forget a token; gives whether it was there."""

    def ping(self) -> None:
        """Return if the store answers, and is still the one that was opened."""

    def probe(self) -> None:
        """Return if the store takes a write."""

    def check(self) -> None:
        """Read all that is kept and return if none of it is damaged; may take minutes."""

    def purge(self, before: int) -> int:
        """Forget receipts older than `before` (seconds since 1970); gives how many."""

    def close(self) -> None:
        """Finish what was begun and let go."""
