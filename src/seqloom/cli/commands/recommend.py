"""`seqloom recommend`: next items for users or histories."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.comma_list import comma_list
from seqloom.cli.model_options import Chosen
from seqloom.cli.next_step import command
from seqloom.cli.session import session
from seqloom.core.errors import ConfigError
from seqloom.jobs.shards import Shard

if TYPE_CHECKING:
    from rich.console import RenderableType

    from seqloom.core.progress import Progress


@options.job_options()
def recommend(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `train` wrote.")],
    *,
    job: Chosen,
    history: Annotated[
        list[str] | None,
        typer.Option(
            "--history",
            metavar="ID,ID,...",
            help="Item ids, oldest first, separated by commas; quote ids with a comma: "
            "'\"a,b\",c'. Repeatable.",
        ),
    ] = None,
    users: Annotated[
        Path | None,
        typer.Option(
            "--users",
            metavar="FILE",
            help="A file with one user id per line (- reads standard input). The users' whole stored "
            "histories are used.",
        ),
    ] = None,
    all_users: Annotated[
        bool, typer.Option("--all-users", help="Recommend to every user of the data set.")
    ] = False,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Number of items per list.")] = 10,
    mask_seen: options.MaskSeen = None,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate",
            help="Search an approximate index in place of all items, for large catalogues (needs "
            "seqloom\\[ann]); reports its recall.",
        ),
    ] = False,
    about: Annotated[
        str | None,
        typer.Option(
            "--about",
            metavar="SENTENCE",
            help="Steer the lists by a sentence, such as 'a gift for a gardener, nothing with perfume'; the "
            "answer states how it was understood.",
        ),
    ] = None,
    about_weight: Annotated[
        float | None,
        typer.Option(
            "--about-weight",
            min=0,
            help="How strongly --about steers; 0 only filters. \\[default: 1]",
        ),
    ] = None,
    dataset: options.Dataset = None,
    device: options.Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Output folder of a job in shards.", rich_help_panel="Shards"),
    ] = None,
    shard: options.ShardOption = None,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge",
            help="Check that --out has all shards, and write its manifest.",
            rich_help_panel="Shards",
        ),
    ] = False,
    shards: options.Shards = None,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Recommend items to users, or for histories of item ids.

    For many users, a job can be divided by an engine (--engine), or by any
    scheduler that runs --shard i/n for each shard and then --merge.
    """
    if sum(map(bool, (history, users, all_users))) != 1:
        raise typer.BadParameter(
            "give exactly one of --history, --users and --all-users", param_hint="--history"
        )
    with session(json_output=json_output, quiet=quiet) as current:
        _check(context, history, users)
        if out is not None:
            inputs: dict[str, Any] = {"run": run, "out": out, "users": users, "dataset": dataset}
            paths = {name: None if path is None else str(path) for name, path in inputs.items()}
            rest = {"k": k, "mask_seen": mask_seen, "approximate": approximate, "device": device}
            summary = _run_shards(context, job, paths | rest, overwrite, current.progress)
            current.finish(summary, _render_summary)
            return
        from seqloom.pipelines.recommend.recommend import recommend as run_stage
        from seqloom.pipelines.recommend.user_file import read_users

        steering: dict[str, Any] = {"about": about, "about_weight": about_weight}
        recommendations = run_stage(
            run,
            histories=_histories(history) if history else None,
            users=read_users(users) if users else None,
            all_users=all_users,
            k=k,
            mask_seen=mask_seen,
            approximate=approximate,
            **{name: value for name, value in steering.items() if value is not None},
            dataset=dataset,
            device=device,
            progress=current.progress,
        )
        current.finish(recommendations, _render, next_step=command("serve", run))


def _run_shards(
    context: typer.Context,
    job_options: Chosen,
    values: dict[str, Any],
    overwrite: bool,
    progress: Progress,
) -> Any:
    """Runs one shard, the merge, or all shards on a job runner."""
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
    with options.open_runner(job_options) as runner:
        return recommend_by(
            runner, job, shards=given["shards"], overwrite=overwrite, progress=progress
        )


def _histories(texts: list[str]) -> list[list[str]]:
    return [comma_list(text, "--history") for text in texts]


def _check(context: typer.Context, history: list[str] | None, users: Path | None) -> None:
    """Checks that options fit together.

    Raises:
        ConfigError: shards for histories or for standard input, or shards without a folder.
    """
    options.check_job_options(context)
    divided = any(context.params[name] for name in ("shard", "merge", "engine"))
    if divided and (history or context.params["out"] is None):
        raise ConfigError(
            "a job in shards (--shard, --merge, --engine) needs --users or --all-users, and --out FOLDER "
            "for its lists"
        )
    if divided and str(users) == "-":
        raise ConfigError("every shard reads the users: give a file, not standard input")
    if divided and context.params["about"] is not None:
        raise ConfigError("a job in shards cannot be steered: leave --about out")
    if context.params["about"] is None and context.params["about_weight"] is not None:
        raise ConfigError("--about-weight needs --about")
    if context.params["out"] is not None and not divided:
        raise ConfigError("--out needs a job in shards; for a single shard give --shard 0/1")


def _render_summary(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table(document)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import rows_table

    for number, entry in enumerate(document, start=1):
        name = f"history {number}" if entry["user"] is None else f"user {entry['user']}"
        if entry["unknown"]:
            name += f" (not in the catalogue: {', '.join(entry['unknown'])})"
        if entry.get("about"):
            name += f": {_describe(entry['about'])}"
        yield name
        yield rows_table(entry["items"])


def _describe(about: dict[str, Any]) -> str:
    """Writes how a sentence was understood."""
    parts = {
        "wanted": [about["wanted"]] if about["wanted"] else [],
        "unwanted": about["unwanted"],
        "only": about["filters"],
    }
    return "; ".join(f"{name}: {', '.join(texts)}" for name, texts in parts.items() if texts)
