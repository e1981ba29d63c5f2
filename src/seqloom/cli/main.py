"""The entry point of `seqloom`: parses, runs one command, turns what it raised into a code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from seqloom._version import __version__
from seqloom.cli.commands import register_all
from seqloom.cli.errors import INTERRUPTED, report_error


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 unexpected, 2 bad input, 130 interrupted."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Run the command line `argv` (without the program's name) and return the exit code."""
    args = list(argv)
    try:
        code = typer.main.get_command(build_app()).main(
            args=args or ["--help"], prog_name="seqloom", standalone_mode=False
        )
    except (Exception, KeyboardInterrupt) as error:
        return report_error(error, json_output=_asks_for_json(args))
    if code == INTERRUPTED:  # typer has caught the KeyboardInterrupt
        return report_error(KeyboardInterrupt(), json_output=_asks_for_json(args))
    return code if isinstance(code, int) else 0


def build_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="seqloom",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    register_all(app)
    return app


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            callback=lambda on: _version(on),
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Large language models for sequential recommendation.

    A log becomes a prepared data set, a data set and a system become a run,
    and a run is evaluated, compared and asked for recommendations.
    Every command takes --json.
    """


def _version(on: bool) -> None:
    if on:
        print(f"seqloom {__version__}")
        raise typer.Exit


def _asks_for_json(args: list[str]) -> bool:
    """Whether `--json` is among the options; asked here because parsing itself may have failed."""
    options = args[: args.index("--")] if "--" in args else args
    return "--json" in options
