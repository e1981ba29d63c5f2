"""`seqloom prepare`: prepares a data set from an interaction log and item texts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.model_options import Chosen, OptionForm, build, model_options
from seqloom.cli.next_step import after_prepare
from seqloom.cli.session import session
from seqloom.data.options import ReadOptions
from seqloom.pipelines.prepare.options import PrepareOptions, SplitOptions

if TYPE_CHECKING:
    from rich.console import RenderableType

_FORMS = {
    "time_format": OptionForm(metavar="FORMAT"),
    "escape": OptionForm(metavar="CHARACTER"),
    "valid_from": OptionForm(metavar="WHEN"),
    "test_from": OptionForm(metavar="WHEN"),
    "cold_items": OptionForm(metavar="SHARE"),
    "cold_users": OptionForm(metavar="SHARE"),
}


@model_options(
    PrepareOptions,
    panels={ReadOptions: "Reading", SplitOptions: "Splitting", PrepareOptions: "Filtering"},
    forms=_FORMS,
)
@options.job_options(skip=("task_gpus",))
def prepare(
    context: typer.Context,
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help="The interactions: a file, or a format's folder.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder of the data set to write.")],
    *,
    chosen: Chosen,
    job: Chosen,
    items: Annotated[
        Path | None, typer.Option("--items", help="A table with an item id and text columns.")
    ] = None,
    parts: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of parts for --engine; default: one per 256 MiB.",
            rich_help_panel=options.SHARDS,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read, check, filter and split an interaction log.

    The log needs a user, an item, and a time or rows in order.
    Columns with the usual names are detected. A log that is too large
    for one process is a folder of files: --engine prepares it in parts.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        options.check_job_options(context)
        read = build(PrepareOptions, chosen)
        if "engine" not in job:
            # A wrong path or column is an error before torch is loaded.
            from seqloom.data.sources.precheck import precheck

            precheck(log, items, read)

        from seqloom.pipelines.prepare.prepare import prepare as run_stage
        from seqloom.pipelines.prepare.prepare import statistics_table

        common: dict[str, Any] = {
            "items": items,
            "options": read,
            "overwrite": overwrite,
            "progress": current.progress,
        }
        if "engine" not in job:
            dataset = run_stage(log, out, **common)
        else:
            from seqloom.pipelines.prepare.out_of_core import prepare_out_of_core

            with options.open_runner(job) as runner:
                dataset = prepare_out_of_core(runner, log, out, parts=parts, **common)
        rows = statistics_table(dataset)
        document = {
            "dataset": str(dataset.path),
            "fingerprint": dataset.fingerprint,
            "statistics": dataset.manifest.statistics,
            "warnings": dataset.manifest.warnings,
        }
        has_text = dataset.manifest.statistics["items_without_text"] < dataset.num_items
        follows = after_prepare(out, has_text=has_text)
        current.finish(document, lambda shown: _render(shown, rows), next_step=follows)


def _render(document: Any, rows: list[tuple[str, str]]) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table({"data set": document["dataset"], **dict(rows)})
