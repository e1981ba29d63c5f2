"""`seqloom audit`: did a held-out event enter anything that training used?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 56
FAILED = 1
"""Exit code where a check failed."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("audit")(audit)


def audit(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|DATASET", help="A run, with which its data set is audited, or a data set."
        ),
    ],
    encode: Annotated[
        bool,
        typer.Option(
            "--encode/--no-encode", help="Put a sample of the texts through the encoder again."
        ),
    ] = True,
    thorough: Annotated[
        bool,
        typer.Option("--thorough", help="Make textual IDs again, however many items there are."),
    ] = False,
    dataset: options.Dataset = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make derived artefacts again without held-out events, and compare.

    Ends with exit code 1 where a check fails.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.audit import audit as run_stage

        found = run_stage(
            path, dataset=dataset, encode=encode, thorough=thorough, progress=current.progress
        )
        current.finish(found, _render)
    if not found.passed:
        raise typer.Exit(FAILED)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    shown = ("verdict", "artefact", "saw", "found")
    yield rows_table([{name: check[name] for name in shown} for check in document["checks"]])
    for check in document["checks"]:
        if check["action"]:
            yield f"{check['verdict']}: {check['artefact']}: {check['action']}"
    proved = sum(check["verdict"] == "pass" for check in document["checks"])
    outcome = "passed" if document["passed"] else "FAILED"
    yield (
        f"{document['kind']} {document['path']}: {outcome}; {proved} of {len(document['checks'])} checks "
        f"passed, {document['failed']} failed, {document['unknown']} could not be made"
    )
