"""`seqloom embed`: texts of items and users to vectors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session
from seqloom.jobs.shards import Shard

if TYPE_CHECKING:
    from rich.console import RenderableType

    from seqloom.pipelines.embed.embed import EmbedOptions

ORDER = 20
_ENCODER, _TEXT = "Encoder", "Text"
_APART = frozenset({"dataset", "overwrite", "json_output", "quiet", *options.SHARDED})


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("embed")(command)


def command(
    context: typer.Context,
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="The folder that `prepare` wrote.")
    ],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="all-minilm-l6-v2, smollm2-135m-instruct, a folder, a GGUF file, a Hugging Face "
            "name, openai:MODEL (an endpoint) or hash:WIDTH (no model).",
            rich_help_panel=_ENCODER,
        ),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(help="Of a language model: mean, last or cls.", rich_help_panel=_ENCODER),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Texts at a time.", rich_help_panel=_ENCODER)
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Cut texts off beyond so many tokens.", rich_help_panel=_ENCODER),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Of a language model: float32, bfloat16 or float16.", rich_help_panel=_ENCODER
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="auto (a GPU if there is one), cpu, cuda:1, ...",
            rich_help_panel=_ENCODER,
        ),
    ] = None,
    requests_per_minute: Annotated[
        float | None,
        typer.Option(help="Rate limit for an endpoint.", rich_help_panel=_ENCODER),
    ] = None,
    item_template: Annotated[
        str | None,
        typer.Option(
            help="full (all text columns), title, a file, or a text with {column} in it.",
            rich_help_panel=_TEXT,
        ),
    ] = None,
    user_template: Annotated[
        str | None,
        typer.Option(help="titles, a file, or a text with {titles} in it.", rich_help_panel=_TEXT),
    ] = None,
    users: Annotated[
        str | None,
        typer.Option(
            help="prompt (encode a text of the user's training items), mean (of their vectors) "
            "or none.",
            rich_help_panel=_TEXT,
        ),
    ] = None,
    user_max_items: Annotated[
        int | None, typer.Option(help="Titles in a user's text.", rich_help_panel=_TEXT)
    ] = None,
    user_max_words: Annotated[
        int | None, typer.Option(help="Words in a user's text.", rich_help_panel=_TEXT)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the embeddings; default: the encoder's.")
    ] = None,
    default: Annotated[
        bool | None,
        typer.Option("--default", help="Make these the ones that `train` takes unasked."),
    ] = None,
    shard: options.ShardOption = None,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge", help="Make the embeddings of finished shards.", rich_help_panel="Shards"
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
    """Embed the texts of a data set's items and users.

    What was embedded before from the same texts is reused, and a call that
    was stopped goes on. A job may be divided: by an engine (--engine), or by
    any scheduler that calls --shard i/n for each share and then --merge.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        options.one_way(context)
        from seqloom.pipelines.embed.embed import EmbedOptions
        from seqloom.pipelines.embed.embed import embed as run_stage

        chosen = EmbedOptions.build(options.given(context, apart=_APART))
        common: dict[str, Any] = {"overwrite": overwrite, "progress": current.progress}
        summary: Any
        if shard is None and not merge and engine is None:
            summary = run_stage(dataset, chosen, **common)
        else:
            summary = _divided(context, dataset, chosen, common)
        current.finish(summary, _render)


def _divided(
    context: typer.Context, dataset: Path, chosen: EmbedOptions, common: dict[str, Any]
) -> Any:
    """One shard, the merge, or both by an engine."""
    from seqloom.pipelines.embed.embed_shards import embed_by, embed_shard, merge_shards

    given = context.params
    if given["shard"] is not None:
        return embed_shard(
            dataset, chosen, Shard.parse(given["shard"]), progress=common["progress"]
        )
    if given["merge"]:
        return merge_shards(dataset, chosen, **common)
    with options.build_runner(context) as engine:
        return embed_by(engine, dataset, chosen, shards=given["shards"], **common)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table(document)
