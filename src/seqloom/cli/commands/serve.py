"""`seqloom serve`: serves recommendations over HTTP."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.model_options import Chosen, OptionForm, build, model_options
from seqloom.cli.session import session
from seqloom.serving.config import ServerConfig

if TYPE_CHECKING:
    from rich.console import RenderableType


_OPTIONS = (
    "host",
    "port",
    "store",
    "check_store",
    "auth",
    "cascade",
    "rerank.model",
    "explain.model",
    "pictures",
    "engine.budget_ms",
    "engine.approximate",
    "connections.max_connections",
    "connections.trusted_proxies",
)
"""Settings with an option of their own; `--config` and `--set` take all settings."""
_FORMS = {
    "store": OptionForm(metavar="URL", envvar="SEQLOOM_STORE"),
    "check_store": OptionForm("--check-store"),
    "rerank.model": OptionForm("--rerank", metavar="MODEL"),
    "explain.model": OptionForm("--explain", metavar="MODEL"),
    "pictures": OptionForm("--pictures", metavar="ORIGIN", repeated=True),
    "cascade": OptionForm(metavar="NAME,NAME,..."),
    "engine.approximate": OptionForm("--approximate/--exact"),
    "connections.trusted_proxies": OptionForm("--trusted-proxy", metavar="ADDRESS", repeated=True),
}


@model_options(ServerConfig, only=_OPTIONS, forms=_FORMS)
def serve(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Folders that `train` wrote, or NAME=FOLDER; the first is the default model.",
        ),
    ],
    *,
    chosen: Chosen,
    config: Annotated[
        Path | None, typer.Option("--config", help="A YAML file with the server's settings.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set a setting, such as limits.max_k=100; repeatable.",
        ),
    ] = None,
    device: options.Device = "auto",
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Serve recommendations of trained runs over HTTP.

    The explorer is at /, the documentation of the API at /docs. When the
    server listens, it writes its address and models to standard output; the
    log goes to standard error, one JSON document per line. SIGHUP reloads
    the runs, SIGTERM stops the server.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        build(ServerConfig, chosen)  # its errors name the options
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server can act on it

        from seqloom.serving.logs import configure_logs
        from seqloom.serving.starting import read_settings, start

        settings = read_settings(config, overrides or [], chosen)
        server = start(runs, settings, device=device, progress=current.progress)
        # Whoever reads the address may stop the server before it has handlers of its own.
        signal.signal(signal.SIGTERM, lambda *_: server.stop())
        current.finish(server.summary(), _render)
    configure_logs(quiet=quiet)
    server.run()


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    yield f"listening on {document['url']}" + (" (tokens needed)" if document["tokens"] else "")
    yield rows_table(document["models"])
