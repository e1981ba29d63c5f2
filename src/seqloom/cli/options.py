"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqloom.cli.model_options import Chosen, OptionForm, build, model_options
from seqloom.core.errors import ConfigError
from seqloom.jobs.factory import JobOptions

if TYPE_CHECKING:
    from seqloom.jobs.base import JobRunner

Json = Annotated[
    bool, typer.Option("--json", help="Write only one JSON document to standard output.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show only warnings: no progress and no notes.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Device = Annotated[
    str,
    typer.Option("--device", metavar="NAME", help="auto (a GPU if available), cpu, cuda:1, ..."),
]
Dataset = Annotated[
    Path | None,
    typer.Option(
        "--dataset", help="Folder of the run's data set, if it has moved since the training."
    ),
]


def _complete_system(incomplete: str) -> list[str]:
    """Returns the systems that the shell offers."""
    from seqloom.systems.registry import names

    return [name for name in names() if name.startswith(incomplete)]


System = Annotated[
    str,
    typer.Option(
        "--system",
        "-s",
        help="System to train; `seqloom systems` lists them.",
        autocompletion=_complete_system,
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A YAML file with configuration keys.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a configuration key; repeatable."),
]
MaskSeen = Annotated[
    bool | None,
    typer.Option(
        "--mask-seen/--no-mask-seen",
        show_default=False,
        help="Exclude items that the user has seen, or keep them; default: as the run was trained.",
    ),
]
Part = Annotated[Literal["test", "valid"], typer.Option("--on", help="The held-out part to use.")]

SHARDS = "Shards"
"""Heading of the options that divide a job."""
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Run only shard I (from 0) of N, for use with any scheduler.",
        rich_help_panel=SHARDS,
    ),
]
Shards = Annotated[
    int | None,
    typer.Option(
        "--shards",
        min=1,
        help="Number of shards for --engine; default: four per worker.",
        rich_help_panel=SHARDS,
    ),
]
_WAYS = ("shard", "merge", "engine")
"""Parameters that exclude each other."""
_OF_ENGINE = ("shards", "parts", *(name for name in JobOptions.model_fields if name != "engine"))
"""Parameters that require `engine`."""


def job_options(*, skip: tuple[str, ...] = ()) -> Callable[..., Any]:
    """Adds the options of `JobOptions` to a command, which receives them as `job`."""
    forms = {
        "engine": OptionForm(show_default=False),  # without it, the job is not divided
        "ray_address": OptionForm(metavar="ADDRESS"),
    }
    return model_options(JobOptions, skip=skip, panel=SHARDS, forms=forms, into="job")


def check_job_options(context: typer.Context) -> None:
    """Checks that the options that divide a job fit together.

    Raises:
        ConfigError: --shard, --merge and --engine are combined, or an option of --engine is given without it.
    """
    given = {name for name in (*_WAYS, *_OF_ENGINE) if context.params.get(name)}
    ways = sorted(given & set(_WAYS))
    if len(ways) > 1:
        raise ConfigError(f"--{ways[0]} and --{ways[1]} exclude each other; give one")
    rest = sorted(given - set(_WAYS))
    if rest and "engine" not in given:
        raise ConfigError(f"--{rest[0].replace('_', '-')} needs --engine local or --engine ray")


def open_runner(job: Chosen) -> JobRunner:
    """Builds the job runner of the options of `job_options`. Raises the errors of `build_runner`."""
    from seqloom.jobs.factory import build_runner

    return build_runner(build(JobOptions, job))
