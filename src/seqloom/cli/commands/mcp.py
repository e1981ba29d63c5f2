"""`seqloom mcp`: tools for assistants."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from seqloom.cli import options
from seqloom.cli.session import session
from seqloom.core.errors import ConfigError


def mcp(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Folders that `train` wrote, or NAME=FOLDER; the first is the default model.",
        ),
    ],
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            envvar="SEQLOOM_STORE",
            help="The store of a server, to share its users; default: a temporary one with the histories "
            "of the runs' data sets.",
        ),
    ] = None,
    device: options.Device = "auto",
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Give assistants tools over standard input and output (MCP).

    The tools are recommend, similar, explain, search_items and compare.
    Standard output belongs to the protocol; notes go to standard error.
    """
    try:
        from seqloom.serving.mcp.server import build_server, open_engine
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "mcp":
            raise
        raise ConfigError(
            "the tools need the package mcp; install it with pip install 'seqloom[mcp]'"
        ) from None
    from seqloom.serving.naming import name_runs

    with contextlib.ExitStack() as opened:
        with session(json_output=json_output, quiet=quiet) as current:
            engine = opened.enter_context(
                open_engine(name_runs(runs), store, device=device, progress=current.progress)
            )
        build_server(engine).run()
