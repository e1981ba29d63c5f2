"""`seqloom systems`: the systems and their configuration keys."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


def systems(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="System whose configuration keys to list.")
    ] = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List the systems, or the configuration keys of one."""
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.systems import registry

        if name is None and not json_output:
            # The table shows no keys, so the systems are not imported.
            rows = [{"system": each, "what": registry.summary(each)} for each in registry.names()]
            current.finish(rows, _render_all)
            return
        from seqloom.cli.config_docs import config_keys

        names = registry.names() if name is None else [name]
        document = [
            {
                "system": each,
                "summary": registry.summary(each),
                "config": config_keys(registry.config_class(each)),
            }
            for each in names
        ]
        current.finish(document, _render_one)


def _render_all(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    yield rows_table(document)
    yield "`seqloom systems NAME` lists the configuration keys of one."


def _render_one(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    (row,) = document
    yield f"{row['system']}: {row['summary']}"
    rows = [{**key, "default": _as_typed(key["default"])} for key in row["config"]]
    yield rows_table(rows)


def _as_typed(value: Any) -> str:
    """Formats a default as typed after `--set KEY=`."""
    return value if isinstance(value, str) else json.dumps(value)
