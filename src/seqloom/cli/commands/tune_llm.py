"""`seqloom tune-llm`: instruction records to a language model that plug-ins share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType

ORDER = 35


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("tune-llm")(tune_llm)


def tune_llm(
    records: Annotated[
        Path,
        typer.Argument(metavar="RECORDS", help="Alpaca records: a JSON array, or JSON lines."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder of the tuned language model.")],
    llm: Annotated[
        str | None,
        typer.Option("--llm", help="The language model to tune; the same as --set llm.name=..."),
    ] = None,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad records out, and say which.")
    ] = False,
    merge: Annotated[
        bool, typer.Option("--merge", help="Write a whole model in place of a PEFT adapter.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of an unfinished call.")
    ] = False,
    checkpoint_every: Annotated[
        float,
        typer.Option("--checkpoint-every", min=0, help="Seconds between checkpoints in an epoch."),
    ] = 60.0,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Tune a language model on instructions with LoRA, for any number of e4srec runs to share.

    docs/guides/e4srec.md lists the keys that --config and --set take; --set wins.
    """
    with session(json_output=json_output, quiet=quiet, divides=True) as current:
        from seqloom.core.config import apply_overrides, read_config_file

        given = [*(overrides or []), *([f"llm.name={llm}"] if llm else [])]
        values = apply_overrides(read_config_file(config) if config else {}, given)

        from seqloom.pipelines.train.tune_llm import tune_llm as run_stage

        summary = run_stage(
            records,
            out=out,
            config=values,
            skip_bad=skip_bad,
            merge=merge,
            resume=resume,
            overwrite=overwrite,
            device=current.processes.device(device),
            checkpoint_every_s=checkpoint_every,
            progress=current.progress,
            processes=current.processes,
        )
        current.finish(summary, _render)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table

    yield fields_table(document)
