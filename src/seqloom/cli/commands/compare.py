"""`seqloom compare`: tests whether differences between runs are significant."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Runs on the same data set. The reference is the run without a language model that is "
            "best on validation, or the first run if all or none use one.",
        ),
    ],
    report: Annotated[
        Path | None, typer.Option("--report", help="HTML file for a report with figures.")
    ] = None,
    on: options.Part = "test",
    mask_seen: options.MaskSeen = None,
    all_pairs: Annotated[
        bool,
        typer.Option(
            "--all-pairs", help="Test every pair of runs, not only against the reference."
        ),
    ] = False,
    item_map: Annotated[
        int, typer.Option(min=0, help="Items on the report's t-SNE map; 0 disables it.")
    ] = 1000,
    audit_runs: Annotated[
        bool,
        typer.Option("--audit", help="Audit runs without a valid audit for the report."),
    ] = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Test the differences between runs, user by user.

    Reports differences, confidence intervals and corrected p-values.
    """
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
    if document.get("protocols"):
        yield "seen items masked and kept, from the same scores (- where a run was not ranked so):"
        yield rows_table(document["protocols"])
    yield document.get("reference_chosen", "")
    for pair in document["pairs"]:
        if pair["pays"]:
            yield pair["pays"]
    yield (
        f"low, high: {document['confidence']:.0%} confidence interval of the difference; p_holm: "
        f"corrected for {document['comparisons']} comparisons."
    )
