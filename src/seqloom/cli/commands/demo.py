"""`seqloom demo`: the whole workflow on MovieLens-100K."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.next_step import command
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

_BEFORE = (
    "MovieLens-100K, 943 users and 1,349 films: prepare, embed, train three systems, compare. "
    "About 3 minutes on two cores; if you interrupt it, the same command resumes."
)


def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the data, the runs and the report.")
    ] = Path("work/demo"),
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run everything on MovieLens-100K, from prepare to recommend.

    Downloads the data, trains several systems, and writes a report.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.pipelines.demo import demo as run_stage

        current.progress.note(_BEFORE)
        summary = run_stage(out, progress=current.progress)
        best = [row.run for row in summary.ranking[:2]]
        current.finish(summary, _render, next_step=command("serve", *best))


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.fitted_table import Column, FittedTable, Paragraph
    from seqloom.core.number_format import format_duration, format_number

    rows = document["ranking"]
    first, *others = document["findings"]
    yield f"{first}\n"
    yield FittedTable(
        [
            Column("run", [row["name"] for row in rows]),
            Column("NDCG@10", [format_number(row["ndcg"]) for row in rows]),
            Column("NDCG@10, rare items", [format_number(row["ndcg_tail_items"]) for row in rows]),
            Column("training", [format_duration(row["seconds"]) for row in rows], 1, dim=True),
        ]
    )
    yield from (Paragraph(sentence) for sentence in others)
    for each in document["recommendations"]:
        yield Paragraph(
            f"User {each['user']} saw {each['saw']}. llmesr recommends {each['recommended']}."
        )
    yield f"\nReport: {document['report']}"
