"""The store for several servers that share a Redis.

Keys, all under one prefix:

schema              version of this layout
seq                 counter of events
users               sorted set of user ids, all with score 0, for search by prefix
u:<user>            sorted set of a user's events: score time, member `<number>:<item>`
receipt:<key>       a hash that expires
imports             set of imported sources
importing           lock of the server that imports
items, item-versions, item-counter   the live catalogue: hash id -> JSON, sorted set id by version
vectors:<item>      hash encoder -> float32 bytes
reload-counter      number of announced reloads
tokens              hash id -> JSON

An acknowledged event is one that Redis has acknowledged: run it with `appendonly yes` and `appendfsync
always`, or it may lose the last second when its machine fails. The server warns where it is not so.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from seqloom.core.errors import ArtefactError, ConfigError, StoreError
from seqloom.core.progress import SILENT, Progress
from seqloom.serving.store.base import (
    RECEIPT_LIFETIME_S,
    Event,
    LiveItem,
    Receipt,
    TokenRecord,
)

SCHEMA = 1
_AT_ONCE = 2000
_IMPORT_LOCK_S = 60
"""A server that imports and is not heard of for so long has ended."""
_APPEND = """
local seen = redis.call('HMGET', KEYS[3], 'fingerprint', 'reply')
if ARGV[1] ~= '' and seen[1] then return seen end
local first = redis.call('INCRBY', KEYS[1], (#ARGV - 4) / 3) - (#ARGV - 4) / 3
for i = 5, #ARGV, 3 do
  first = first + 1
  redis.call('ZADD', ARGV[2] .. 'u:' .. ARGV[i], ARGV[i + 2],
             string.format('%020d:', first) .. ARGV[i + 1])
  redis.call('ZADD', KEYS[2], 0, ARGV[i])
end
if ARGV[1] ~= '' then
  redis.call('HSET', KEYS[3], 'fingerprint', ARGV[1], 'reply', ARGV[3])
  redis.call('EXPIRE', KEYS[3], ARGV[4])
end
return false
"""
_PUT_ITEM = """
local version = redis.call('INCR', KEYS[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[3], version, ARGV[1])
redis.call('DEL', KEYS[4])
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1]) end
return version
"""


class RedisStore:
    """See the module. `url` is redis:// or rediss://; a cluster is not supported.

    Raises:
        ConfigError: the redis package is not installed.
        StoreError: the server cannot be reached.
        ArtefactError: the layout is newer than this seqloom.
    """

    name = "redis"

    def __init__(self, url: str, *, prefix: str = "seqloom:", progress: Progress = SILENT) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise ConfigError(
                "the Redis store needs the redis package; pip install 'seqloom[redis]'"
            ) from None
        parts = urlsplit(url)
        self.where = f"Redis store {parts.hostname or 'local'}{parts.path}"
        self._prefix = prefix
        self._error_type: type[Exception] = redis.RedisError
        self._client: Any = redis.Redis.from_url(
            url,
            socket_connect_timeout=10,
            socket_timeout=30,
            health_check_interval=30,
            # A command whose reply was lost may have been carried out: sent again, it would append twice.
            retry=Retry(NoBackoff(), 0),
        )
        self._append = self._client.register_script(_APPEND)
        self._put_item = self._client.register_script(_PUT_ITEM)
        with self._errors():
            self._client.setnx(self._key("schema"), SCHEMA)
            found = int(self._client.get(self._key("schema")) or 0)
            self._warn_of_loss(progress)
        if found > SCHEMA:
            raise ArtefactError(
                f"{self.where} has layout version {found}, this seqloom knows {SCHEMA}; update "
                "seqloom, or name another --store"
            )

    def _warn_of_loss(self, progress: Progress) -> None:
        with contextlib.suppress(self._error_type):  # CONFIG may be forbidden to us
            told = {**self._client.config_get("append*")}
            if told.get("appendonly") != "yes" or told.get("appendfsync") != "always":
                progress.warn(
                    f"{self.where} may lose acknowledged events when its machine fails; set "
                    "`appendonly yes` and `appendfsync always`"
                )

    def append(self, events: Sequence[Event], receipt: Receipt | None = None) -> Receipt | None:
        """See `Store`. One script, so all or none and no other command between."""
        told = receipt or Receipt("", "", "")
        values: list[Any] = [told.fingerprint, self._prefix, told.reply, RECEIPT_LIFETIME_S]
        for event in events:
            values += [event.user_id, event.item_id, event.timestamp]
        keys = [self._key("seq"), self._key("users"), self._key(f"receipt:{told.key}")]
        with self._errors():
            seen = self._append(keys=keys, args=values)
        return Receipt(told.key, seen[0].decode(), seen[1].decode()) if seen else None

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
        key = self._key(f"u:{user_id}")
        with self._errors():
            pipe = self._client.pipeline()
            pipe.zcard(key).delete(key).zrem(self._key("users"), user_id)
            return int(pipe.execute()[0])

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
        """See `Store`. An import that was cut off is done again and leaves no event twice.

        One server imports at a time: a second one could bring a user back who was erased meanwhile.
        """
        count = 0
        with self._errors(), self._client.lock(self._key("importing"), _IMPORT_LOCK_S) as lock:
            if self.imported(source):
                return 0
            for chunk in chunks:
                lock.reacquire()
                for start in range(0, len(chunk), _AT_ONCE):
                    pipe = self._client.pipeline(transaction=False)
                    for event in chunk[start : start + _AT_ONCE]:
                        # Numbers of imported events begin with a dash: before all others.
                        member = f"-{count:019d}:{event.item_id}"
                        pipe.zadd(self._key(f"u:{event.user_id}"), {member: event.timestamp})
                        pipe.zadd(self._key("users"), {event.user_id: 0})
                        count += 1
                    pipe.execute()
            self._client.sadd(self._key("imports"), source)
        return count

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
            found = pipe.execute()
        items = []
        for (item_id, at), text, vectors in zip(rows, found[::2], found[1::2], strict=True):
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
        found = [TokenRecord(**{**row, "scopes": tuple(row["scopes"])}) for row in rows]
        return sorted(found, key=lambda token: (token.created, token.token_id))

    def revoke_token(self, token_id: str) -> bool:
        """See `Store`."""
        with self._errors():
            return bool(self._client.hdel(self._key("tokens"), token_id))

    def ping(self) -> None:
        """See `Store`. A Redis that was emptied, or started without its data, is another store."""
        with self._errors():
            known = self._client.exists(self._key("schema"))
        if not known:
            raise StoreError(f"{self.where} was emptied; start the server again")

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
            raise StoreError(f"{self.where}: {error}") from error


def _item(member: bytes) -> str:
    return member[21:].decode()
