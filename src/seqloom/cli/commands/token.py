"""`seqloom token`: access tokens of a server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


def token(
    action: Annotated[
        Literal["create", "list", "revoke"],
        typer.Argument(metavar="ACTION", help="create, list or revoke."),
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", help="Purpose of a new token; not secret, shown in lists."),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", help="Scope of a new token: read (default), write or admin; repeatable."
        ),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option("--days", min=0.0, help="Lifetime of a new token; default: unlimited."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=0.001, help="Rate limit of a new token, requests per second."),
    ] = None,
    token_id: Annotated[
        str | None, typer.Option("--id", help="Id of the token to revoke, as listed.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            envvar="SEQLOOM_STORE",
            help="The server's store; sqlite:///seqloom.db by default.",
        ),
    ] = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Create, list or revoke access tokens of a server.

    A new token is shown only once; the store keeps a hash of it.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.serving.token_actions import create, list_tokens, revoke

        if action == "create":
            current.finish(create(store, name, scope or ["read"], days, rate), _render_new)
        elif action == "list":
            current.finish(list_tokens(store), _render_list)
        else:
            current.finish(revoke(store, token_id), _render_revoked)


def _render_new(document: Any) -> Iterable[RenderableType]:
    yield document["token"]
    yield f"id {document['id']}, scopes {', '.join(document['scopes'])}; it will not be shown again"


def _render_list(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    rows = [{**row, "scopes": ", ".join(row["scopes"])} for row in document]
    yield rows_table(rows) if rows else "no tokens"


def _render_revoked(document: Any) -> Iterable[RenderableType]:
    yield f"token {document['id']} is revoked; servers refuse it within two seconds"
