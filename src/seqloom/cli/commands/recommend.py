"""`seqloom recommend`: the next items for users or for bare histories."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session
from seqloom.core.errors import ConfigError
from seqloom.jobs.shards import Shard

if TYPE_CHECKING:
    from rich.console import RenderableType

    from seqloom.core.progress import Progress

ORDER = 60


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("recommend")(command)


def command(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `train` wrote.")],
    history: Annotated[
        list[str] | None,
        typer.Option(
            "--history",
            metavar="ID,ID,...",
            help="Item ids, oldest first, separated by commas; an id with a comma in quotes: "
            "'\"a,b\",c'. Repeat for more histories.",
        ),
    ] = None,
    users: Annotated[
        Path | None,
        typer.Option(
            "--users",
            metavar="FILE",
            help="A file with one user id a line (- reads standard input); their whole stored "
            "history counts.",
        ),
    ] = None,
    all_users: Annotated[
        bool, typer.Option("--all-users", help="For every user of the data set.")
    ] = False,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many items for each.")] = 10,
    mask_seen: options.MaskSeen = True,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate",
            help="Search an index of the items and not all of them (large catalogues; needs "
            "seqloom\\[ann]); its recall is measured and said.",
        ),
    ] = False,
    dataset: options.Dataset = None,
    device: options.Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The folder of the lists of a job in shards.", rich_help_panel="Shards"
        ),
    ] = None,
    shard: options.ShardOption = None,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge",
            help="Check that every shard is in --out and write its manifest.",
            rich_help_panel="Shards",
        ),
    ] = False,
    engine: options.EngineName = None,
    shards: options.Shards = None,
    workers: options.Workers = None,
    ray_address: options.RayAddress = None,
    task_cpus: options.TaskCpus = None,
    task_gpus: options.TaskGpus = None,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Recommend items to users of the data set, or to anyone by a history of item ids.

    For many users a job may be divided: by an engine (--engine), or by any
    scheduler that calls --shard i/n for each share and then --merge.
    """
    if sum(map(bool, (history, users, all_users))) != 1:
        raise typer.BadParameter(
            "give one of --history, --users and --all-users", param_hint="--history"
        )
    with session(json_output=json_output, quiet=quiet) as current:
        _check(context, history, users)
        if out is not None:
            job: dict[str, Any] = {"run": run, "out": out, "users": users, "dataset": dataset}
            paths = {name: None if path is None else str(path) for name, path in job.items()}
            rest = {"k": k, "mask_seen": mask_seen, "approximate": approximate, "device": device}
            summary = _lists(context, paths | rest, overwrite, current.progress)
            current.finish(summary, _render_summary)
            return
        from seqloom.pipelines.recommend.recommend import recommend as run_stage
        from seqloom.pipelines.recommend.user_file import read_users

        recommendations = run_stage(
            run,
            histories=_histories(history) if history else None,
            users=read_users(users) if users else None,
            all_users=all_users,
            k=k,
            mask_seen=mask_seen,
            approximate=approximate,
            dataset=dataset,
            device=device,
            progress=current.progress,
        )
        current.finish(recommendations, _render)


def _lists(
    context: typer.Context, values: dict[str, Any], overwrite: bool, progress: Progress
) -> Any:
    """One shard, the merge, or both by an engine."""
    from seqloom.pipelines.recommend.recommend_shards import (
        ListsJob,
        merge_lists,
        recommend_by,
        recommend_shard,
    )

    job = ListsJob.build(values)
    given = context.params
    if given["shard"] is not None:
        shard = Shard.parse(given["shard"])
        return recommend_shard(job, shard, overwrite=overwrite, progress=progress)
    if given["merge"]:
        return merge_lists(job)
    with options.build_runner(context) as engine:
        return recommend_by(
            engine, job, shards=given["shards"], overwrite=overwrite, progress=progress
        )


def _histories(texts: list[str]) -> list[list[str]]:
    return [options.comma_list(text, "--history") or [] for text in texts]


def _check(context: typer.Context, history: list[str] | None, users: Path | None) -> None:
    """Refuse options that do not go together.

    Raises:
        ConfigError: shards of bare histories or of standard input, or shards without a folder.
    """
    options.one_way(context)
    divided = any(context.params[name] for name in ("shard", "merge", "engine"))
    if divided and (history or context.params["out"] is None):
        raise ConfigError(
            "a job in shards (--shard, --merge, --engine) is for --users or --all-users, and writes "
            "its lists to a folder: give --out FOLDER"
        )
    if divided and str(users) == "-":
        raise ConfigError("every shard reads the users: give a file and not standard input")
    if context.params["out"] is not None and not divided:
        raise ConfigError("--out is for a job in shards; the whole as one shard is --shard 0/1")


def _render_summary(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table(document)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    for number, entry in enumerate(document, start=1):
        name = f"history {number}" if entry["user"] is None else f"user {entry['user']}"
        if entry["unknown"]:
            name += f" (not in the catalogue: {', '.join(entry['unknown'])})"
        yield name
        yield rows_table(entry["items"])
