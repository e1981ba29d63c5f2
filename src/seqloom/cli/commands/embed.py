"""`seqloom embed`: text embeddings of items and users."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.model_options import Chosen, OptionForm, build, model_options
from seqloom.cli.next_step import after_embed
from seqloom.cli.session import session
from seqloom.jobs.shards import Shard
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.text.options import EncoderOptions

if TYPE_CHECKING:
    from rich.console import RenderableType


@model_options(
    EmbedOptions,
    panels={EncoderOptions: "Encoder", EmbedOptions: "Text"},
    forms={"device": OptionForm(metavar="NAME"), "default": OptionForm("--default")},
)
@options.job_options()
def embed(
    context: typer.Context,
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="The folder that `prepare` wrote.")
    ],
    *,
    chosen: Chosen,
    job: Chosen,
    shard: options.ShardOption = None,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge", help="Join the embeddings of finished shards.", rich_help_panel="Shards"
        ),
    ] = False,
    shards: options.Shards = None,
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Embed the texts of a data set's items and users.

    Reuses embeddings of the same texts, and resumes an interrupted call.
    A job can be divided by an engine (--engine), or by any scheduler
    that runs --shard i/n for each shard and then --merge.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        options.check_job_options(context)
        read = build(EmbedOptions, chosen)

        from seqloom.pipelines.embed.embed import embed as run_stage

        common: dict[str, Any] = {"overwrite": overwrite, "progress": current.progress}
        summary: Any
        if shard is None and not merge and "engine" not in job:
            summary = run_stage(dataset, read, **common)
        else:
            summary = _run_shards(context, job, dataset, read, common)
        current.finish(summary, _render, next_step=after_embed(dataset))


def _run_shards(
    context: typer.Context,
    job: Chosen,
    dataset: Path,
    read: EmbedOptions,
    common: dict[str, Any],
) -> Any:
    """Runs one shard, the merge, or all shards on a job runner."""
    from seqloom.pipelines.embed.embed_shards import embed_shard, embed_sharded, merge_shards

    values = context.params
    if values["shard"] is not None:
        shard = Shard.parse(values["shard"])
        return embed_shard(dataset, read, shard, progress=common["progress"])
    if values["merge"]:
        return merge_shards(dataset, read, **common)
    with options.open_runner(job) as runner:
        return embed_sharded(runner, dataset, read, shards=values["shards"], **common)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table(document)
