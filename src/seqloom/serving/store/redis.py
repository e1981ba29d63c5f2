"""The store for several servers that share a Redis.

Keys, all under one prefix:

schema              version of this layout
seq                 counter of events
users               sorted set of user ids, all with score 0, for search by prefix
u:<user>            sorted set of a user's events: score time, member `<number>:<item>`
erasures            hash SHA-1 of an erased user's id -> moment
receipt:<key>       a hash that expires
imports             set of imported sources
lineage             what is known of the data sets
probe               written to see whether Redis takes writes
items, item-versions, item-counter   the live catalogue: hash id -> JSON, sorted set id by version
vectors:<item>      hash encoder -> float32 bytes
reload-counter      number of announced reloads
tokens              hash id -> JSON

Durability is that of Redis: run it with `appendonly yes` and `appendfsync always`, or it may lose the last
second when its machine fails. The server warns about other settings.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import Any

from seqloom.core.errors import ArtefactError, ConfigError, StoreError
from seqloom.core.progress import SILENT, Progress
from seqloom.serving.store import redis_scripts
from seqloom.serving.store.base import (
    RECEIPT_LIFETIME_S,
    UNKNOWN_TIME,
    Appended,
    Event,
    LiveItem,
    Receipt,
    TokenRecord,
)
from seqloom.serving.store.url import StoreUrl

SCHEMA = 2
_AT_ONCE = 2000
_EVENTS_A_SCRIPT = 500
"""Most events of one import script, which blocks all other commands; Lua also limits arguments."""


class RedisStore:
    """A store in Redis. `url` is redis:// or rediss://; a cluster is not supported.

    Raises:
        ConfigError: the redis package is not installed.
        StoreError: the server cannot be reached.
        ArtefactError: the layout is newer than this seqloom.
    """

    name = "redis"

    def __init__(
        self, url: StoreUrl, *, prefix: str = "seqloom:", progress: Progress = SILENT
    ) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise ConfigError(
                "the Redis store needs the redis package; pip install 'seqloom[redis]'"
            ) from None
        self._url = url
        self.where = f"Redis store {url.shown}"
        self._prefix = prefix
        self._error_type: type[Exception] = redis.RedisError
        try:
            self._client: Any = redis.Redis.from_url(
                url.url,
                socket_connect_timeout=10,
                socket_timeout=10,
                health_check_interval=30,
                # A command whose reply was lost may have been executed: its caller must know.
                retry=Retry(NoBackoff(), 0),
            )
            # Options of the URL are arguments of the client. It does not connect yet.
            pool = self._client.connection_pool
            pool.connection_class(**pool.connection_kwargs)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.where}: an option is not valid: {url.clean(error)}") from None
        self._append = self._client.register_script(redis_scripts.APPEND)
        self._import = self._client.register_script(redis_scripts.IMPORT)
        self._erase = self._client.register_script(redis_scripts.ERASE)
        self._set_lineage = self._client.register_script(redis_scripts.SET_LINEAGE)
        self._put_item = self._client.register_script(redis_scripts.PUT_ITEM)
        with self._errors():
            self._migrate()
            self._warn_of_loss(progress)

    def _migrate(self) -> None:
        """Updates the layout. An interrupted update runs again."""
        key = self._key("schema")
        if self._client.setnx(key, SCHEMA):
            return
        current = int(self._client.get(key))
        if current > SCHEMA:
            raise ArtefactError(
                f"{self.where} has layout version {current}, this seqloom knows {SCHEMA}; update "
                "seqloom, or name another --store"
            )
        if current < SCHEMA:
            once_each = self._client.register_script(redis_scripts.ONCE_EACH)
            for user, _ in self._client.zscan_iter(self._key("users"), count=_AT_ONCE):
                once_each(keys=[self._key("u:").encode() + user], args=[UNKNOWN_TIME])
            self._client.set(key, SCHEMA)

    def _warn_of_loss(self, progress: Progress) -> None:
        with contextlib.suppress(self._error_type):  # CONFIG may not be permitted
            settings = {**self._client.config_get("append*")}
            if settings.get("appendonly") != "yes" or settings.get("appendfsync") != "always":
                progress.warn(
                    f"{self.where} may lose acknowledged events when its machine fails; set "
                    "`appendonly yes` and `appendfsync always`"
                )

    def append(self, events: Sequence[Event], receipt: Receipt | None = None) -> Appended:
        """See `Store`. One script, so it is atomic."""
        keyed = receipt or Receipt("", "", "")
        values: list[Any] = [self._prefix, keyed.fingerprint, keyed.reply, RECEIPT_LIFETIME_S]
        for event in events:
            values += [event.user_id, event.item_id, event.timestamp]
        with self._errors():
            new, *earlier = self._append(keys=[self._key(f"receipt:{keyed.key}")], args=values)
        texts = [part.decode() for part in earlier]
        return Appended(int(new), Receipt(keyed.key, *texts) if texts else None)

    def histories(self, users: Sequence[str], limit: int) -> dict[str, list[str]]:
        """See `Store`."""
        with self._errors():
            pipe = self._client.pipeline(transaction=False)
            for user in users:
                pipe.zrange(self._key(f"u:{user}"), -limit, -1)
            rows = pipe.execute()
        return {
            user: [_item(member) for member in members]
            for user, members in zip(users, rows, strict=True)
            if members
        }

    def export(self, user_id: str) -> list[Event]:
        """See `Store`."""
        with self._errors():
            rows = self._client.zrange(self._key(f"u:{user_id}"), 0, -1, withscores=True)
        return [Event(user_id, _item(member), int(score)) for member, score in rows]

    def erase(self, user_id: str) -> int:
        """See `Store`."""
        with self._errors():
            return int(self._erase(args=[self._prefix, user_id, int(time.time())]))

    def find_users(self, prefix: str, limit: int) -> list[str]:
        """See `Store`."""
        low = b"[" + prefix.encode()
        with self._errors():
            rows = self._client.zrangebylex(
                self._key("users"), low, low + b"\xff", start=0, num=limit
            )
        return [row.decode() for row in rows]

    def imported(self, source: str) -> bool:
        """See `Store`."""
        with self._errors():
            return bool(self._client.sismember(self._key("imports"), source))

    def import_events(self, source: str, chunks: Iterable[Sequence[Event]]) -> int:
        """See `Store`."""
        if self.imported(source):
            return 0
        count = 0
        with self._errors():
            for chunk in chunks:
                pipe = self._client.pipeline(transaction=False)
                for user, events in itertools.groupby(chunk, attrgetter("user_id")):
                    values = [[e.item_id, e.timestamp, e.occurrence] for e in events]
                    for start in range(0, len(values), _EVENTS_A_SCRIPT):
                        some = itertools.chain.from_iterable(
                            values[start : start + _EVENTS_A_SCRIPT]
                        )
                        arguments = [self._prefix, UNKNOWN_TIME, user, *some]
                        self._import(args=arguments, client=pipe)
                count += sum(map(int, pipe.execute()))
            self._client.sadd(self._key("imports"), source)
        return count

    def lineage(self) -> str | None:
        """See `Store`."""
        with self._errors():
            held = self._client.get(self._key("lineage"))
        return None if held is None else held.decode()

    def set_lineage(self, text: str, expected: str | None) -> bool:
        """See `Store`."""
        with self._errors():
            return bool(self._set_lineage(keys=[self._key("lineage")], args=[text, expected or ""]))

    def put_item(self, item: LiveItem) -> int:
        """See `Store`."""
        text = json.dumps({"attributes": item.attributes, "removed": item.removed})
        names = ("item-counter", "items", "item-versions", f"vectors:{item.item_id}")
        vectors = [part for pair in item.vectors.items() for part in pair]
        with self._errors():
            keys = [self._key(name) for name in names]
            return int(self._put_item(keys=keys, args=[item.item_id, text, *vectors]))

    def items_since(self, version: int) -> list[LiveItem]:
        """See `Store`."""
        with self._errors():
            rows = self._client.zrangebyscore(
                self._key("item-versions"), f"({version}", "+inf", withscores=True
            )
            pipe = self._client.pipeline()
            for item_id, _ in rows:
                pipe.hget(self._key("items"), item_id)
                pipe.hgetall(self._key("vectors:").encode() + item_id)
            values = pipe.execute()
        items = []
        for (item_id, at), text, vectors in zip(rows, values[::2], values[1::2], strict=True):
            named = {key.decode(): vector for key, vector in vectors.items()}
            items.append(
                LiveItem(item_id.decode(), **json.loads(text), vectors=named, version=int(at))
            )
        return items

    def announce_reload(self) -> int:
        """See `Store`."""
        with self._errors():
            return int(self._client.incr(self._key("reload-counter")))

    def reloads(self) -> int:
        """See `Store`."""
        with self._errors():
            return int(self._client.get(self._key("reload-counter")) or 0)

    def put_token(self, token: TokenRecord) -> None:
        """See `Store`."""
        with self._errors():
            self._client.hset(self._key("tokens"), token.token_id, json.dumps(asdict(token)))

    def tokens(self) -> list[TokenRecord]:
        """See `Store`."""
        with self._errors():
            rows = [json.loads(text) for text in self._client.hvals(self._key("tokens"))]
        records = [TokenRecord(**{**row, "scopes": tuple(row["scopes"])}) for row in rows]
        return sorted(records, key=lambda token: (token.created, token.token_id))

    def revoke_token(self, token_id: str) -> bool:
        """See `Store`."""
        with self._errors():
            return bool(self._client.hdel(self._key("tokens"), token_id))

    def ping(self) -> None:
        """See `Store`. A Redis that was emptied or restarted without its data is another store."""
        with self._errors():
            known = self._client.exists(self._key("schema"))
        if not known:
            raise StoreError(f"{self.where} was emptied; start the server again")

    def probe(self) -> None:
        """See `Store`."""
        with self._errors():
            self._client.set(self._key("probe"), int(time.time()))

    def check(self) -> None:
        """See `Store`. Every user has readable events, and every sorted set of events has its user."""
        users, broken = self._key("users"), 0
        with self._errors():
            for user, _ in self._client.zscan_iter(users, count=_AT_ONCE):
                members = self._client.zrange(self._key("u:").encode() + user, 0, -1)
                broken += not members or any(member[20:21] != b":" for member in members)
            pattern = self._key("u:")
            for key in self._client.scan_iter(f"{pattern}*", count=_AT_ONCE):
                broken += self._client.zscore(users, key[len(pattern.encode()) :]) is None
        if broken:
            raise StoreError(
                f"{self.where} is damaged: the events of {broken} users are incomplete; restore it "
                "from a backup"
            )

    def purge(self, before: int) -> int:
        """See `Store`. Receipts expire by themselves."""
        return 0

    def close(self) -> None:
        """See `Store`."""
        self._client.close()

    def _key(self, name: str) -> str:
        return self._prefix + name

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._error_type as error:
            raise StoreError(f"{self.where}: {self._url.clean(error)}") from None


def _item(member: bytes) -> str:
    return member[21:].decode()
