"""The entry point of `seqloom`: parses the arguments, runs one command, returns an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping, Sequence
from typing import Annotated, NoReturn

import typer

from seqloom._version import __version__
from seqloom.cli.errors import INTERRUPTED, report_error
from seqloom.cli.group import CONTEXT, LazyGroup
from seqloom.cli.option_names import CURRENT_OPTIONS

_SPIN = ("GOMP_SPINCOUNT", "10000")
"""How often an idle thread of OpenMP looks for work before it sleeps; by default up to 300,000 times."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits: 0 success, 1 unexpected error, 2 bad input, 130 interrupted."""
    share_cores(os.environ)
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Lets the threads of a computation sleep soon where other programs need the cores.

    By default a thread that waits for another one keeps its core busy, and the one that it waits for may be
    waiting for that core. The OpenMP of torch reads the variable when torch is imported. What the user
    has set stays.
    """
    if not {_SPIN[0], "OMP_WAIT_POLICY"} & set(environment):
        environment[_SPIN[0]] = _SPIN[1]


def run(argv: Sequence[str]) -> int:
    """Runs the command line `argv` (without the program's name) and returns the exit code."""
    args = list(argv)
    json_output = _requests_json(args)
    CURRENT_OPTIONS.set({})
    group = build_group()
    try:
        code = group.main(args=args or ["--help"], prog_name="seqloom", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        return report_error(error, json_output=json_output)
    if code == INTERRUPTED:  # Typer catches KeyboardInterrupt
        return report_error(KeyboardInterrupt(), json_output=json_output)
    return code if isinstance(code, int) else 0


def build_group() -> LazyGroup:
    """Builds the command line."""
    app = typer.Typer(
        name="seqloom", cls=LazyGroup, pretty_exceptions_enable=False, context_settings=CONTEXT
    )
    app.callback()(_root)
    group = typer.main.get_command(app)
    assert isinstance(group, LazyGroup)
    return group


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

    `prepare` turns a log into a data set, `train` a data set into a run;
    `evaluate`, `compare`, `recommend` and `serve` use runs.
    Every command takes --json.
    """


def _version(on: bool) -> None:
    if on:
        print(f"seqloom {__version__}")
        raise typer.Exit


def _requests_json(args: list[str]) -> bool:
    """Whether `--json` is given; read from the arguments because parsing itself may fail."""
    options = args[: args.index("--")] if "--" in args else args
    return "--json" in options
