"""`seqloom prepare`: an interaction log and the text of its items to a prepared data set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 10
_READ, _FILTER, _SPLIT = "Reading", "Filtering", "Splitting"
_APART = frozenset({"log", "out", "items", "overwrite", "json_output", "quiet", *options.IN_PARTS})


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("prepare")(prepare)


def prepare(
    context: typer.Context,
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help="The interactions: a file, or a format's folder.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder of the data set to write.")],
    items: Annotated[
        Path | None, typer.Option("--items", help="A table with an item id and text columns.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="auto, csv, parquet, jsonl, recbole, movielens, amazon, yelp or sequences; "
            "auto says what it chose.",
            rich_help_panel=_READ,
        ),
    ] = None,
    user_column: Annotated[
        str | None, typer.Option(help="The column with user ids.", rich_help_panel=_READ)
    ] = None,
    item_column: Annotated[
        str | None, typer.Option(help="The column with item ids.", rich_help_panel=_READ)
    ] = None,
    timestamp_column: Annotated[
        str | None, typer.Option(help="The column with times.", rich_help_panel=_READ)
    ] = None,
    rating_column: Annotated[
        str | None, typer.Option(help="The column with ratings.", rich_help_panel=_READ)
    ] = None,
    timestamp_unit: Annotated[
        str | None,
        typer.Option(help="Of numeric times: auto, s, ms, us or ns.", rich_help_panel=_READ),
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Of dates, as %d/%m/%Y %H:%M, where day and month cannot be told apart.",
            rich_help_panel=_READ,
        ),
    ] = None,
    items_id_column: Annotated[
        str | None,
        typer.Option(help="The column of --items with item ids.", rich_help_panel=_READ),
    ] = None,
    text_columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Text columns of the items to keep; one with a comma in quotes: 'A,\"B, C\"'.",
            rich_help_panel=_READ,
        ),
    ] = None,
    separator: Annotated[
        str | None, typer.Option(help="Field separator of CSV files.", rich_help_panel=_READ)
    ] = None,
    quote: Annotated[
        str | None,
        typer.Option(
            metavar='auto|none|"',
            help='Whether " quotes fields of CSV files or is an ordinary character (none); '
            "auto takes what fits and says it.",
            rich_help_panel=_READ,
        ),
    ] = None,
    escape: Annotated[
        str | None,
        typer.Option(
            metavar="CHARACTER",
            help='What stands before a " inside a quoted field, such as \\; else quotes are doubled.',
            rich_help_panel=_READ,
        ),
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether CSV files begin with names; else columns are 1, 2, ...",
            rich_help_panel=_READ,
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="Of text files: utf-8 or latin-1.", rich_help_panel=_READ),
    ] = None,
    min_rating: Annotated[
        float | None,
        typer.Option(help="Leave out events rated lower.", rich_help_panel=_FILTER),
    ] = None,
    duplicates: Annotated[
        str | None,
        typer.Option(
            help="Of repeated (user, item): keep-all, first, last, or consecutive (one of a run).",
            rich_help_panel=_FILTER,
        ),
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            help="At rows without user, item or time: error, or drop and count them.",
            rich_help_panel=_FILTER,
        ),
    ] = None,
    min_count: Annotated[
        int | None,
        typer.Option(
            help="Keep users and items with so many events (k-core; 5 by default, 0 keeps all).",
            rich_help_panel=_FILTER,
        ),
    ] = None,
    min_user_count: Annotated[
        int | None, typer.Option(help="The same, for users alone.", rich_help_panel=_FILTER)
    ] = None,
    min_item_count: Annotated[
        int | None, typer.Option(help="The same, for items alone.", rich_help_panel=_FILTER)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="leave-one-out (each user's last event is the test target) or temporal.",
            rich_help_panel=_SPLIT,
        ),
    ] = None,
    valid_fraction: Annotated[
        float | None,
        typer.Option(help="temporal: share of events for validation.", rich_help_panel=_SPLIT),
    ] = None,
    test_fraction: Annotated[
        float | None,
        typer.Option(help="temporal: share of events for the test.", rich_help_panel=_SPLIT),
    ] = None,
    valid_from: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="temporal: begin of validation (ISO date or seconds since 1970).",
            rich_help_panel=_SPLIT,
        ),
    ] = None,
    test_from: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="temporal: begin of the test.", rich_help_panel=_SPLIT),
    ] = None,
    cold_items: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the items that training never meets; they remain as test targets.",
            rich_help_panel=_SPLIT,
        ),
    ] = None,
    cold_users: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the users that are test users, and as many validation users: training "
            "never meets them, their last event is the target.",
            rich_help_panel=_SPLIT,
        ),
    ] = None,
    cold_seed: Annotated[
        int | None,
        typer.Option(help="Seed of the choice of cold items and users.", rich_help_panel=_SPLIT),
    ] = None,
    engine: options.EngineName = None,
    parts: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Into how many parts --engine cuts the data set; default: one for each 256 MiB.",
            rich_help_panel="Shards",
        ),
    ] = None,
    workers: options.Workers = None,
    ray_address: options.RayAddress = None,
    task_cpus: options.TaskCpus = None,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read, check, filter and split an interaction log.

    The log needs a user, an item, and a time or else an order of its rows.
    Columns with usual names are found by themselves. A log that is too large
    for one process is a folder of files, and --engine prepares it in parts.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        options.one_way(context)
        from seqloom.pipelines.prepare.prepare import PrepareOptions, statistics_table
        from seqloom.pipelines.prepare.prepare import prepare as run_stage

        values = options.given(context, apart=_APART)
        if text_columns is not None:
            values["text_columns"] = options.comma_list(text_columns, "--text-columns")
        common: dict[str, Any] = {
            "items": items,
            "options": PrepareOptions.build(values),
            "overwrite": overwrite,
            "progress": current.progress,
        }
        if engine is None:
            dataset = run_stage(log, out, **common)
        else:
            from seqloom.pipelines.prepare.out_of_core import prepare_by

            with options.build_runner(context) as runner:
                dataset = prepare_by(runner, log, out, parts=parts, **common)
        rows = statistics_table(dataset)
        document = {
            "dataset": str(dataset.path),
            "fingerprint": dataset.fingerprint,
            "statistics": dataset.manifest.statistics,
            "warnings": dataset.manifest.warnings,
        }
        current.finish(document, lambda shown: _render(shown, rows))


def _render(document: Any, rows: list[tuple[str, str]]) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table({"data set": document["dataset"], **dict(rows)})
