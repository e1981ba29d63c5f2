"""`seqloom ids`: the textual IDs of a data set's items."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqloom.cli import options
from seqloom.cli.next_step import command
from seqloom.cli.session import session

if TYPE_CHECKING:
    from rich.console import RenderableType


def ids(
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="The folder that `prepare` wrote.")
    ],
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Use the generator of this idgenrec run."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="A YAML file with keys of idgenrec.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a key of idgenrec; repeatable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Parquet file to write; default: ids.parquet in DATASET."),
    ] = None,
    show: Annotated[int, typer.Option("--show", min=0, help="Number of items to show.")] = 20,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Name items with a few words, as IDGenRec does.

    Writes the names of all items to a file.

    The default generator is a pretrained SmolLM2; choose another model with
    --set generator.name=...
    """
    with session(json_output=json_output, quiet=quiet) as current:
        from seqloom.core.config import apply_overrides, read_config_file

        values = apply_overrides(read_config_file(config) if config else {}, overrides or [])

        from seqloom.pipelines.train.textual_ids import textual_ids

        summary = textual_ids(
            dataset,
            run=run,
            config=values,
            out=out,
            show=show,
            overwrite=overwrite,
            device=device,
            progress=current.progress,
        )
        given = ["--set", f"ids.file={summary.file}"]
        if values.get("ids", {}).get("make") == "tree":  # the run makes the same names itself
            given = ["--config", str(config)] if config else []
            given += [part for each in overrides or [] for part in ("--set", each)]
        follows = command(
            "train", dataset, "--system", "idgenrec", *given, "--out", "runs/idgenrec"
        )
        current.finish(summary, _render, next_step=follows)


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table, rows_table

    rows = document.pop("rows")
    if rows:
        yield rows_table(rows)
    yield fields_table(document)
