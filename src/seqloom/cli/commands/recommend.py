"""`seqloom recommend`: the next items for users or for bare histories."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session
from seqloom.core.errors import DataError

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 60


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("recommend")(recommend)


def recommend(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `train` wrote.")],
    history: Annotated[
        list[str] | None,
        typer.Option(
            "--history",
            metavar="ID,ID,...",
            help="Item ids, oldest first, separated by commas; repeat for more histories.",
        ),
    ] = None,
    users: Annotated[
        Path | None,
        typer.Option(
            "--users",
            metavar="FILE",
            help="A file with one user id a line (- reads standard input); their whole stored "
            "history counts.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many items for each.")] = 10,
    mask_seen: options.MaskSeen = True,
    dataset: options.Dataset = None,
    device: options.Device = "auto",
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Recommend items to users of the data set, or to anyone by a history of item ids."""
    if bool(history) == bool(users):
        raise typer.BadParameter("give either --history or --users", param_hint="--history")
    with session(json_output=json_output, quiet=quiet) as current:
        histories = [_split(text) for text in history] if history else None
        user_ids = _read_users(users) if users else None

        from seqloom.runs.recommend import recommend as run_stage

        recommendations = run_stage(
            run,
            histories=histories,
            users=user_ids,
            k=k,
            mask_seen=mask_seen,
            dataset=dataset,
            device=device,
            progress=current.progress,
        )
        current.finish(recommendations, _render)


def _split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _read_users(path: Path) -> list[str]:
    """User ids, one a line; empty lines are no ids."""
    if str(path) == "-":
        lines = sys.stdin.read().splitlines()
    else:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise DataError(f"user file {path} does not exist; write one user id a line") from None
        except UnicodeDecodeError as error:
            raise DataError(f"user file {path} is not UTF-8 text: {error}") from None
    users = [line.strip() for line in lines if line.strip()]
    if not users:
        raise DataError(f"user file {path} holds no user id; write one user id a line")
    return users


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    for number, entry in enumerate(document, start=1):
        name = f"history {number}" if entry["user"] is None else f"user {entry['user']}"
        if entry["unknown"]:
            name += f" (not in the catalogue: {', '.join(entry['unknown'])})"
        yield name
        yield rows_table(entry["items"])
