"""The actions of `seqloom token`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from seqloom.core.errors import ConfigError
from seqloom.serving.store import DEFAULT_URL, open_store
from seqloom.serving.store.base import TokenRecord
from seqloom.serving.tokens import create_token


def create(
    url: str | None, name: str | None, scopes: Sequence[str], days: float | None, rate: float | None
) -> dict[str, Any]:
    """Creates a token. Only the returned document holds it.

    Raises:
        ConfigError: the name is missing or a scope is unknown.
        StoreError: the store cannot be opened.
    """
    if name is None:
        raise ConfigError("give the new token a --name")
    with contextlib.closing(open_store(url or DEFAULT_URL)) as store:
        record, token = create_token(store, name, scopes, days=days, rate=rate)
    return {**_describe(record), "token": token}


def list_tokens(url: str | None) -> list[dict[str, Any]]:
    """Lists all tokens without their secrets. Raises the errors of `open_store`."""
    with contextlib.closing(open_store(url or DEFAULT_URL)) as store:
        return [_describe(record) for record in store.tokens()]


def revoke(url: str | None, token_id: str | None) -> dict[str, Any]:
    """Revokes a token.

    Raises:
        ConfigError: the id is missing or unknown.
        StoreError: the store cannot be opened.
    """
    if token_id is None:
        raise ConfigError("name the token to revoke with --id; `seqloom token list` shows the ids")
    with contextlib.closing(open_store(url or DEFAULT_URL)) as store:
        if not store.revoke_token(token_id):
            raise ConfigError(
                f"no token has the id {token_id!r}; `seqloom token list` shows the ids"
            )
    return {"id": token_id, "revoked": True}


def _describe(record: TokenRecord) -> dict[str, Any]:
    return {
        "id": record.token_id,
        "name": record.name,
        "scopes": list(record.scopes),
        "created": _when(record.created),
        "expires": None if record.expires is None else _when(record.expires),
        "rate": record.rate,
    }


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
