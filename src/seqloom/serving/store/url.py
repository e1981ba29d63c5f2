"""Parses store URLs and keeps their secrets out of messages.

A URL is accepted only if its parts are unambiguous: a password with a reserved character that is not
written as %XX could be parsed as a host or a path and appear in a message. So messages of this module
repeat nothing of a URL, and `StoreUrl` shows only host, port and path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import unquote

from seqloom.core.errors import ConfigError

Kind = Literal["sqlite", "postgresql", "redis"]
ALLOWED: Final = (
    "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/NAME, redis://:PASSWORD@HOST:PORT/NUMBER"
)
_ESCAPE: Final = (
    "write reserved characters of a user name, a password or an option as %XX "
    "(%2F for /, %40 for @, %3A for :, %3F for ?, %23 for #, %25 for %)"
)
_KINDS: Final[dict[str, Kind]] = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "redis": "redis",
    "rediss": "redis",
}
_OPTIONS: Final = (
    "host", "hostaddr", "port", "dbname", "user", "sslmode", "application_name", "connect_timeout",
    "target_session_attrs", "options", "db", "protocol", "client_name",
)  # fmt: skip
"""Options without secrets; messages omit the values of all others."""
_TEXT = r"(?:[A-Za-z0-9._~!$'()*,;-]|%(?!00)[0-9A-Fa-f]{2})"
_HOST = r"(?:[A-Za-z0-9._-]|%2[Ff])+|\[[0-9A-Fa-f:.]+\]"
_SERVER_URL = re.compile(
    rf"(?:(?P<user>{_TEXT}*)(?::(?P<password>(?:{_TEXT}|[&=+])*))?@)?"
    rf"(?P<hosts>(?:(?:{_HOST})?(?::[0-9]+)?)(?:,(?:{_HOST})(?::[0-9]+)?)*)"
    rf"(?P<path>/(?:{_TEXT}|[+=&])*)?"
    rf"(?:\?(?P<query>(?:{_TEXT}|[&=+/:])*))?"
)


@dataclass(frozen=True)
class StoreUrl:
    """A parsed store URL."""

    kind: Kind
    shown: str
    """Host, port and path, or the file; messages may name these."""
    url: str = field(repr=False)
    """The whole URL, for the database's library."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """The secrets, both percent-encoded and decoded."""

    def clean(self, error: BaseException) -> str:
        """Returns a library's message without secrets; replaces it where it repeats one."""
        text = str(error)
        if any(secret in text for secret in self.secrets):
            return f"{type(error).__name__} (message withheld: it holds a secret of the URL)"
        return text


def parse_store_url(text: str) -> StoreUrl:
    """Parses a store's URL.

    Raises:
        ConfigError: the scheme is unknown, or the parts are ambiguous. Repeats nothing of the URL.
    """
    name, mark, rest = text.partition("://")
    kind = _KINDS.get(name)
    if not mark or kind is None:
        raise ConfigError(f"the store's URL has an unknown scheme; allowed: {ALLOWED}")
    if kind == "sqlite":
        if not rest.startswith("/") or len(rest) < 2 or "\0" in rest:
            raise ConfigError("the store's URL names no SQLite file; write sqlite:///FILE")
        return StoreUrl(kind, rest[1:], text)
    parts = _SERVER_URL.fullmatch(rest)
    if parts is None:
        raise ConfigError(f"the store's URL ({kind}) cannot be read; {_ESCAPE}")
    path = parts["path"] or ""
    if kind == "redis" and not re.fullmatch(r"/?[0-9]*", path):
        raise ConfigError("the store's URL (redis) must end in /NUMBER, the number of a database")
    shown = unquote(f"{parts['hosts'] or 'local'}{path}")
    return StoreUrl(kind, shown, text, _secrets(kind, parts))


def _secrets(kind: Kind, parts: re.Match[str]) -> tuple[str, ...]:
    held = [parts["password"]]
    if kind == "redis" and parts["password"] is None:
        held.append(parts["user"])  # a name without a password may be the password
    for option in (parts["query"] or "").split("&"):
        key, equals, value = option.partition("=")
        if not equals or re.search("pass|secret|token", key, re.IGNORECASE):
            held.append(value if equals else key)
        elif key not in _OPTIONS:
            held += [key, value]
    return tuple({form for each in held if each for form in (each, unquote(each))})
