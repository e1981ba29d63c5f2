"""The schema of the SQL stores, one step per version. Published steps never change; changes are new steps."""

from __future__ import annotations

from dataclasses import dataclass

from seqloom.core.errors import ArtefactError
from seqloom.serving.store.base import UNKNOWN_TIME


@dataclass(frozen=True)
class Migration:
    """A step from version - 1 to version. `{name}` is replaced by the dialect's spelling."""

    version: int
    statements: tuple[str, ...]


DIALECTS = {
    "sqlite": {
        "text": "TEXT",
        "serial": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "bigint": "INTEGER",
        "blob": "BLOB",
        "real": "REAL",
        "unknown_time": str(UNKNOWN_TIME),
    },
    "postgresql": {
        # Byte order independent of the database's locale: a search by prefix needs it.
        "text": 'TEXT COLLATE "C"',
        "serial": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "bigint": "BIGINT",
        "blob": "BYTEA",
        "real": "DOUBLE PRECISION",
        "unknown_time": str(UNKNOWN_TIME),
    },
}

MIGRATIONS = (
    Migration(
        1,
        (
            "CREATE TABLE events (seq {serial}, user_id {text} NOT NULL, item_id {text} NOT NULL, "
            "timestamp {bigint} NOT NULL)",
            "CREATE INDEX events_of_user ON events (user_id, timestamp, seq)",
            "CREATE TABLE receipts (key {text} PRIMARY KEY, fingerprint {text} NOT NULL, "
            "reply {text} NOT NULL, created {bigint} NOT NULL)",
            "CREATE INDEX receipts_by_age ON receipts (created)",
            "CREATE TABLE imports (source {text} PRIMARY KEY, created {bigint} NOT NULL)",
        ),
    ),
    Migration(
        2,
        (
            "CREATE TABLE catalogue (item_id {text} PRIMARY KEY, version {bigint} NOT NULL, "
            "removed {bigint} NOT NULL, attributes {text} NOT NULL)",
            "CREATE INDEX catalogue_by_version ON catalogue (version)",
            "CREATE TABLE catalogue_vectors (item_id {text} NOT NULL, encoder {text} NOT NULL, "
            "vector {blob} NOT NULL, PRIMARY KEY (item_id, encoder))",
            # One row that every change updates: versions become visible in their order.
            "CREATE TABLE counters (name {text} PRIMARY KEY, value {bigint} NOT NULL)",
            "INSERT INTO counters (name, value) VALUES ('catalogue', 0)",
        ),
    ),
    Migration(
        3,
        (
            "CREATE TABLE tokens (token_id {text} PRIMARY KEY, name {text} NOT NULL, "
            "secret_sha256 {text} NOT NULL, scopes {text} NOT NULL, created {bigint} NOT NULL, "
            "expires {bigint}, rate {real})",
        ),
    ),
    Migration(4, ("INSERT INTO counters (name, value) VALUES ('reloads', 0)",)),
    Migration(
        5,
        (
            # An event is one user, item and time. Older versions kept repetitions.
            "DELETE FROM events WHERE timestamp <> {unknown_time} AND EXISTS (SELECT 1 FROM events e "
            "WHERE e.user_id = events.user_id AND e.timestamp = events.timestamp "
            "AND e.item_id = events.item_id AND e.seq < events.seq)",
            "ALTER TABLE events ADD COLUMN occurrence {bigint} NOT NULL DEFAULT 0",
            "UPDATE events SET occurrence = (SELECT count(*) FROM events e "
            "WHERE e.user_id = events.user_id AND e.timestamp = events.timestamp "
            "AND e.item_id = events.item_id AND e.seq < events.seq) "
            "WHERE timestamp = {unknown_time}",
            # It orders histories too, except for equal times, which keep the order of arrival.
            "CREATE UNIQUE INDEX events_once ON events (user_id, timestamp, item_id, occurrence)",
            "DROP INDEX events_of_user",
            "ALTER TABLE receipts ADD COLUMN new_events {bigint}",
            "CREATE TABLE erasures (user_key {text} PRIMARY KEY, until {bigint} NOT NULL)",
            "CREATE TABLE lineage (name {text} PRIMARY KEY, value {text} NOT NULL)",
            "INSERT INTO counters (name, value) VALUES ('probe', 0)",
        ),
    ),
)
LATEST = MIGRATIONS[-1].version
TABLES = (
    "events", "receipts", "imports", "catalogue", "catalogue_vectors", "counters", "tokens",
    "erasures", "lineage",
)  # fmt: skip
"""All tables that the migrations create."""


def steps(dialect: str, current: int, where: str) -> list[tuple[int, list[str]]]:
    """Returns the statements that update version `current` to the latest, by version.

    Raises:
        ArtefactError: the schema is newer than this seqloom.
    """
    if current > LATEST:
        raise ArtefactError(
            f"{where} has schema version {current}, this seqloom knows {LATEST}; update seqloom, or "
            "name another --store"
        )
    names = DIALECTS[dialect]
    return [
        (migration.version, [statement.format(**names) for statement in migration.statements])
        for migration in MIGRATIONS
        if migration.version > current
    ]
