"""`seqloom tune-llm`: instruction tuning of a shared language model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


def tune_llm(
    records: Annotated[
        Path,
        typer.Argument(metavar="RECORDS", help="Alpaca records: a JSON array or JSON lines."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the tuned language model.")],
    llm: Annotated[
        str | None,
        typer.Option("--llm", help="Language model to tune; same as --set llm.name=..."),
    ] = None,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Skip bad records and report them.")
    ] = False,
    merge: Annotated[
        bool, typer.Option("--merge", help="Write a merged model in place of a PEFT adapter.")
    ] = False,
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
    """Tune a language model on instructions.

    Uses LoRA; any number of e4srec runs can share the tuned model.

    docs/guides/e4srec.md lists the keys of --config and --set; --set takes precedence.
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
