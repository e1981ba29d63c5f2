"""`seqloom embed`: texts of items and users to vectors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 20
_ENCODER, _TEXT = "Encoder", "Text"
_APART = frozenset({"dataset", "overwrite", "json_output", "quiet"})


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("embed")(embed)


def embed(
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
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Embed the texts of a data set's items and users.

    What was embedded before from the same texts is reused, and a call that
    was stopped goes on.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.runs.embed import EmbedOptions
        from seqloom.runs.embed import embed as run_stage

        summary = run_stage(
            dataset,
            EmbedOptions.build(options.given(context, apart=_APART)),
            overwrite=overwrite,
            progress=current.progress,
        )
        current.finish(summary, _render)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table(document)
