"""`seqloom train`: trains a system on a data set."""

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


def train(
    dataset: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATASET...", help="The folder that `prepare` wrote; several with --foundation."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder of the run to write.")],
    system: options.System,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume an unfinished run from its last checkpoint.")
    ] = False,
    checkpoint_every: Annotated[
        float,
        typer.Option(
            "--checkpoint-every", min=0, help="Seconds between checkpoints within an epoch."
        ),
    ] = 60.0,
    foundation: Annotated[
        bool,
        typer.Option("--foundation", help="Train one recommender on several data sets (idgenrec)."),
    ] = False,
    fsdp: Annotated[
        bool,
        typer.Option(
            "--fsdp",
            help="Shard the language models over several processes by FSDP2 (e4srec, idgenrec), for "
            "models that are too large for one GPU.",
        ),
    ] = False,
    trackers: Annotated[
        list[str] | None,
        typer.Option(
            "--track",
            metavar="TRACKER",
            help="Record the training in mlflow or wandb, beside TensorBoard; repeatable.",
        ),
    ] = None,
    shard: Annotated[
        bool, typer.Option("--shard", hidden=True, help="The former name of --fsdp.")
    ] = False,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a system on a prepared data set.

    `seqloom systems NAME` lists the keys of --config and --set; --set takes
    precedence.
    On several processes or GPUs: torchrun --nproc-per-node N -m seqloom train ...
    """
    fsdp = fsdp or shard
    if fsdp and foundation:
        raise typer.BadParameter("--fsdp and --foundation exclude each other", param_hint="--fsdp")
    if len(dataset) > 1 and not foundation:
        raise typer.BadParameter("several data sets need --foundation", param_hint="DATASET")
    with session(json_output=json_output, quiet=quiet, divides=True) as current:
        from seqloom.core.config import apply_overrides, read_config_file

        values = apply_overrides(read_config_file(config) if config else {}, overrides or [])

        # torch loads from here on; a mistyped option fails before it.
        from seqloom.data.store import Dataset

        loaded = [Dataset.load(path) for path in dataset]
        settings: dict[str, Any] = {
            "config": values,
            "out": out,
            "resume": resume,
            "overwrite": overwrite,
            "device": current.processes.device(device),
            "checkpoint_every_s": checkpoint_every,
            "progress": current.progress,
            "processes": current.processes,
            "trackers": trackers or (),
        }
        if foundation:
            from seqloom.pipelines.train.foundation import train_foundation

            summary = train_foundation(loaded, system, **settings)
        else:
            from seqloom.pipelines.train.train import train as run_stage

            summary = run_stage(loaded[0], system, fsdp=fsdp, **settings)
        current.finish(summary, _render, next_step=command("evaluate", out))


def _render(document: Any) -> Iterable[RenderableType]:
    from seqloom.cli.show import fields_table
    from seqloom.core.number_format import format_duration
    from seqloom.evaluation.metrics import metric_label

    yield f"trained {document['system']}: {document['run']}"
    facts = {"time": format_duration(document["seconds_total"])}
    if document["epochs"]:
        mean = sum(document["seconds_per_epoch"]) / len(document["seconds_per_epoch"])
        facts["epochs"] = f"{document['epochs']}, {format_duration(mean)} each"
    if document["best_epoch"] is not None:
        facts["best weights"] = f"phase {document['best_phase']}, epoch {document['best_epoch']}"
    for name, value in document["valid"].items():
        facts[f"validation {metric_label(name)}"] = f"{value:.4f}"
    facts["parameters"] = f"{document['parameters']:,}, {document['trained_parameters']:,} trained"
    facts["peak memory"] = f"{document['peak_rss_mb']:,.0f} MiB"
    yield fields_table(facts)
