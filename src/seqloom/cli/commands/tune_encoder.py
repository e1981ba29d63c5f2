"""`seqloom tune-encoder`: a text encoder tuned by the log."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.next_step import command
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


class Kind(StrEnum):
    """Kinds of encoders."""

    static = "static"
    transformer = "transformer"
    distilled = "distilled"


def tune_encoder(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="The folder that `prepare` wrote.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the tuned encoder.")],
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            help="Model to tune; for --kind static its words, `catalogue` for those of the items.",
        ),
    ] = "catalogue",
    kind: Annotated[
        Kind,
        typer.Option(
            "--kind",
            help="Tune word vectors (static), or a language model: on histories (transformer), or on a table "
            "of item vectors that the histories trained (distilled).",
        ),
    ] = Kind.static,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume an interrupted call from its last checkpoint.")
    ] = False,
    checkpoint_every: Annotated[
        float,
        typer.Option(
            "--checkpoint-every", min=0, help="Seconds between checkpoints within an epoch."
        ),
    ] = 60.0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Tune a text encoder on the training part of a data set.

    `seqloom embed --encoder` reads the result like any encoder.

    docs/guides/tuned-text.md lists the keys of --config and --set; --set takes precedence.
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.core.config import apply_overrides, read_config_file

        values = apply_overrides(read_config_file(config) if config else {}, overrides or [])

        from seqloom.pipelines.train.tune_encoder import tune_encoder as run_stage

        summary = run_stage(
            dataset,
            out=out,
            encoder=encoder,
            kind=kind.value,
            config=values,
            resume=resume,
            overwrite=overwrite,
            device=device,
            checkpoint_every_s=checkpoint_every,
            progress=current.progress,
        )
        follows = command("embed", dataset, "--encoder", out, "--name", out.name)
        current.finish(summary, _render, next_step=follows)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table(document)
