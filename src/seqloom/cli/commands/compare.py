"""`seqloom compare`: are the differences between runs more than chance?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 50


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("compare")(compare)


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Runs on the same data set. The others are tested against the run without a language "
            "model that is best on validation; where all or none use one, against the first.",
        ),
    ],
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a report with figures to this HTML file.")
    ] = None,
    on: options.Part = "test",
    mask_seen: options.MaskSeen = True,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Test every pair, not only against the reference.")
    ] = False,
    item_map: Annotated[
        int, typer.Option(min=0, help="Items on the report's map by t-SNE; 0 draws none.")
    ] = 1000,
    audit_runs: Annotated[
        bool,
        typer.Option("--audit", help="Audit runs for the report that have no valid audit yet."),
    ] = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare runs user by user: difference, confidence interval, corrected p-value."""
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.compare.compare import compare as run_stage

        comparison = run_stage(
            runs,
            report=report,
            on=on,
            mask_seen=mask_seen,
            all_pairs=all_pairs,
            item_map=item_map,
            audit_runs=audit_runs,
            progress=current.progress,
        )
        current.finish(comparison, _render)


_SHOWN = ("group", "users", "metric", "reference", "run", "difference", "low", "high", "p_holm")


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    for pair in document["pairs"]:
        yield pair["sentence"]
        rows = [{name: row[name] for name in _SHOWN} for row in pair["differences"]]
        yield rows_table(rows)
    for row in document["over_seeds"]:
        yield row["sentence"]
    yield document.get("reference_chosen", "")
    for pair in document["pairs"]:
        if pair["pays"]:
            yield pair["pays"]
    yield (
        f"low, high: {document['confidence']:.0%} confidence interval of the difference; p_holm: "
        f"corrected for {document['comparisons']} comparisons."
    )
