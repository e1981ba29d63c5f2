"""The persistent state of a server: users' histories, the live catalogue, access tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

UNKNOWN_TIME: Final = -(2**62)
"""Stands for an unknown time; older than every known one."""
RECEIPT_LIFETIME_S: Final = 24 * 3600
"""How long an idempotency key is kept."""


@dataclass(frozen=True, slots=True)
class Event:
    """One interaction."""

    user_id: str
    item_id: str
    timestamp: int = UNKNOWN_TIME
    """Seconds since 1970. A history is ordered by it, and by arrival where it is equal."""
    occurrence: int = 0
    """For an imported event without a time: the number of earlier events of the user with the item."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Makes a retried request safe: it gets the stored answer and is not executed again."""

    key: str
    """The caller's key, unique over all callers."""
    fingerprint: str
    """SHA-256 of the request: the same key with another request is an error of the caller."""
    reply: str
    """The first answer."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The result of appending events."""

    new: int
    """Number of events that the store did not have."""
    earlier: Receipt | None = None
    """The receipt of the first request with the same key; `new` is then of that request."""


@dataclass(frozen=True, slots=True)
class LiveItem:
    """A change of the catalogue since training: an item added, updated or removed."""

    item_id: str
    attributes: dict[str, str] = field(default_factory=dict)
    """Text by column."""
    removed: bool = False
    """Never recommended; histories may still hold it."""
    vectors: dict[str, bytes] = field(default_factory=dict)
    """Text embeddings by the encoder's key, float32, so that a restart embeds nothing."""
    version: int = 0
    """Rises with every change of the catalogue; set by the store."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A stored bearer token, without the secret."""

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
    """Keeps the persistent state of a server. Every method is safe to call from any thread.

    An event is identified by user, item and time, and stored one time only, however often and from wherever
    it arrives. The store guarantees this, also between servers that write concurrently.

    Raises (every method):
        StoreError: the database cannot be reached or refuses.
    """

    name: str
    """The kind, for messages and metrics."""
    where: str
    """Kind and location, for messages; without secrets."""

    def append(self, events: Sequence[Event], receipt: Receipt | None = None) -> Appended:
        """Stores `events`, all or none. When it returns, they are on disk.

        Where `receipt.key` was used before, nothing is appended and the earlier receipt is returned.
        """

    def histories(self, users: Sequence[str], limit: int) -> dict[str, list[str]]:
        """Returns the last `limit` item ids of each user, oldest first; omits users without events."""

    def export(self, user_id: str) -> list[Event]:
        """Returns all events of a user, oldest first."""

    def erase(self, user_id: str) -> int:
        """Erases a user; returns the number of erased events.

        The time of erasure is recorded under a hash of the user's id. Imports skip events up to that time
        and events without a time. Later appended events are stored.
        """

    def find_users(self, prefix: str, limit: int) -> list[str]:
        """Returns ids that start with `prefix`, in order."""

    def imported(self, source: str) -> bool:
        """Returns whether `import_events` of that source is complete."""

    def import_events(self, source: str, chunks: Iterable[Sequence[Event]]) -> int:
        """Stores a data set's events; returns the number of new ones, 0 where the import was complete before.

        Each chunk is stored separately and holds all events of its users. An interrupted import starts
        again. An event without a time matches stored events of that user and item at any time: its n-th
        occurrence is new if the store has fewer than n. An event with a time replaces those of that user
        and item that were imported without one.
        """

    def lineage(self) -> str | None:
        """Returns what `set_lineage` stored; None in a store without."""

    def set_lineage(self, text: str, expected: str | None) -> bool:
        """Replaces the lineage if it still is `expected`; returns whether it did."""

    def put_item(self, item: LiveItem) -> int:
        """Stores a change of the catalogue; returns its version."""

    def items_since(self, version: int) -> list[LiveItem]:
        """Returns the latest change of every item changed after `version`, in the order of versions."""

    def announce_reload(self) -> int:
        """Tells every server of this store to reload its runs; returns the number of the announcement."""

    def reloads(self) -> int:
        """Returns the number of the last announced reload; 0 before the first."""

    def put_token(self, token: TokenRecord) -> None:
        """Stores a token."""

    def tokens(self) -> list[TokenRecord]:
        """Returns all tokens, the oldest first."""

    def revoke_token(self, token_id: str) -> bool:
        """Deletes a token; returns whether it existed."""

    def ping(self) -> None:
        """Returns if the store answers and is still the one that was opened."""

    def probe(self) -> None:
        """Returns if the store takes a write."""

    def check(self) -> None:
        """Reads the whole store and returns if nothing is damaged; may take minutes."""

    def purge(self, before: int) -> int:
        """Deletes receipts older than `before` (seconds since 1970); returns their number."""

    def close(self) -> None:
        """Finishes started work and releases all resources."""
