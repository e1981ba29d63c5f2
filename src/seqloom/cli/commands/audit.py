"""`seqloom audit`: checks that no held-out event reached what training used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

FAILED = 1
"""Exit code if a check fails."""


def audit(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|DATASET", help="A run (audits its data set too), or a data set."
        ),
    ],
    encode: Annotated[
        bool,
        typer.Option("--encode/--no-encode", help="Encode a sample of the texts again."),
    ] = True,
    thorough: Annotated[
        bool,
        typer.Option("--thorough", help="Generate textual IDs again even for large catalogues."),
    ] = False,
    dataset: options.Dataset = None,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check that no held-out event was used for training.

    Rebuilds derived artefacts without held-out events, and compares.
    Also checks whether the events are in the order of time.

    The exit code is 1 if a check fails.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.audit import audit as run_stage

        audited = run_stage(
            path, dataset=dataset, encode=encode, thorough=thorough, progress=current.progress
        )
        current.finish(audited, _render)
    if not audited.passed:
        raise typer.Exit(FAILED)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    columns = {"verdict": "verdict", "artefact": "artefact", "saw": "data", "found": "result"}
    yield rows_table(
        [{title: check[key] for key, title in columns.items()} for check in document["checks"]]
    )
    for check in document["checks"]:
        if check["action"]:
            yield f"{check['verdict']}: {check['artefact']}: {check['action']}"
    if document.get("order"):
        shown = ("verdict", "name", "value", "threshold", "sentence")
        yield rows_table([{name: check[name] for name in shown} for check in document["order"]])
    passed = sum(check["verdict"] == "pass" for check in document["checks"])
    outcome = "passed" if document["passed"] else "FAILED"
    yield (
        f"{document['kind']} {document['path']}: {outcome}; {passed} of {len(document['checks'])} checks "
        f"passed, {document['failed']} failed, {document['unknown']} could not be run"
    )
