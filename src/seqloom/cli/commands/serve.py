"""`seqloom serve`: recommendations over HTTP."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 70


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("serve")(serve)


def serve(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Folders that `train` wrote, or NAME=FOLDER; the first is the default model.",
        ),
    ],
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on; 127.0.0.1 by default.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port; 8000 by default, 0 takes a free one.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            envvar="SEQLOOM_STORE",
            help="sqlite:///FILE (by default seqloom.db), postgresql://... or redis://...",
        ),
    ] = None,
    check_store: Annotated[
        bool | None,
        typer.Option(
            "--check-store",
            help="Read the whole store first, and do not start where it is damaged.",
        ),
    ] = None,
    auth: Annotated[
        bool | None,
        typer.Option(
            "--auth/--no-auth", help="Ask for tokens; by default everywhere but on loopback."
        ),
    ] = None,
    cascade: Annotated[
        str | None,
        typer.Option(
            "--cascade",
            metavar="NAME,NAME,...",
            help="Models to ask in this order under the latency budget, the last one always.",
        ),
    ] = None,
    budget_ms: Annotated[
        float | None, typer.Option("--budget-ms", help="Latency budget of the cascade.")
    ] = None,
    approximate: Annotated[
        bool | None,
        typer.Option(
            "--approximate/--exact",
            help="Search an index of the items and not all of them (needs seqloom\\[ann]); exact by default.",
        ),
    ] = None,
    max_connections: Annotated[
        int | None,
        typer.Option(
            "--max-connections",
            help="Most connections at once; 2048 by default, fewer where the limit of open files is low.",
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy",
            metavar="ADDRESS",
            help="Address or network of a proxy, which may have any number of them; can be repeated.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="A YAML file with the server's settings.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as limits.max_k=100."),
    ] = None,
    device: options.Device = "auto",
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer over HTTP from trained runs; the explorer is at /, the interface is described at /docs.

    Once it listens, the address and the models are written to standard output; the log, one JSON
    document a line, goes to standard error. SIGHUP loads the runs anew, SIGTERM ends it.
    """
    engine = {"budget_ms": budget_ms, "approximate": approximate}
    connections = {"max_connections": max_connections, "trusted_proxies": trusted_proxy or None}
    given = {
        "host": host,
        "port": port,
        "store": store,
        "check_store": check_store,
        "auth": auth,
        "cascade": options.comma_list(cascade, "--cascade"),
        "engine": {k: v for k, v in engine.items() if v is not None},
        "connections": {k: v for k, v in connections.items() if v is not None},
    }
    with session(json_output=json_output, quiet=quiet) as current:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server can act on it

        from seqloom.serving.logs import configure_logs
        from seqloom.serving.starting import read_settings, start

        settings = read_settings(config, overrides or [], given)
        server = start(runs, settings, device=device, progress=current.progress)
        current.finish(server.summary(), _render)
    configure_logs(quiet=quiet)
    server.run()


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    yield f"listening on {document['url']}" + (" (tokens needed)" if document["tokens"] else "")
    yield rows_table(document["models"])
