"""`seqloom token`: the access tokens of a server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 75


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("token")(token)


def token(
    action: Annotated[
        Literal["create", "list", "revoke"],
        typer.Argument(metavar="ACTION", help="create, list or revoke."),
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", help="What a new token is for; shown in lists, not secret."),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", help="What a new token may do: read (by default), write, admin; repeat it."
        ),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option("--days", min=0.0, help="How long a new token holds; for ever by default."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=0.001, help="Requests a second that a new token may make."),
    ] = None,
    token_id: Annotated[
        str | None, typer.Option("--id", help="The token to revoke, by its id in the list.")
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
    """Make, list or revoke access tokens. A new token is shown once; the store keeps a hash of it."""
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.serving.token_actions import create, listing, revoke

        if action == "create":
            current.finish(create(store, name, scope or ["read"], days, rate), _render_new)
        elif action == "list":
            current.finish(listing(store), _render_list)
        else:
            current.finish(revoke(store, token_id), _render_revoked)


def _render_new(document: Any) -> Iterable[RenderableType]:
    yield document["token"]
    yield f"id {document['id']}, scopes {', '.join(document['scopes'])}; it is not shown again"


def _render_list(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    rows = [{**row, "scopes": ", ".join(row["scopes"])} for row in document]
    yield rows_table(rows) if rows else "there is no token"


def _render_revoked(document: Any) -> Iterable[RenderableType]:
    yield f"token {document['id']} is revoked; servers refuse it within two seconds"
