"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqloom.core.errors import ConfigError

if TYPE_CHECKING:
    from seqloom.jobs import JobRunner

_ENTRY = re.compile(r'(?:\s*"((?:[^"]|"")*+)"\s*|(?!\s*")([^,]*))(?=,|\Z)')

Json = Annotated[
    bool,
    typer.Option("--json", help="Write one JSON document to standard output and nothing else."),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show no progress and no notes; warnings remain.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output where it already exists.")
]
Device = Annotated[
    str,
    typer.Option("--device", metavar="NAME", help="auto (a GPU if there is one), cpu, cuda:1, ..."),
]
Dataset = Annotated[
    Path | None,
    typer.Option(
        "--dataset", help="Where the run's data set is now, if it is not where it was trained."
    ),
]
System = Annotated[
    str, typer.Option("--system", "-s", help="What to train; `seqloom systems` lists them.")
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A YAML file with configuration keys.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One configuration key; may be repeated."),
]
MaskSeen = Annotated[
    bool,
    typer.Option(
        "--mask-seen/--no-mask-seen", help="Leave out the items that the user has already seen."
    ),
]
Part = Annotated[
    Literal["test", "valid"], typer.Option("--on", help="The held-out part that counts.")
]

_SHARDS = "Shards"
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Do share I (from 0) of N alone; any scheduler may run the shares.",
        rich_help_panel=_SHARDS,
    ),
]
EngineName = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="Divide the job: local (processes of this machine) or ray.",
        rich_help_panel=_SHARDS,
    ),
]
Shards = Annotated[
    int | None,
    typer.Option(
        "--shards",
        min=1,
        help="Into how many shares --engine divides the job; default: four a worker.",
        rich_help_panel=_SHARDS,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Shares at a time for --engine.", rich_help_panel=_SHARDS),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="A running Ray cluster: auto, HOST:PORT or ray://HOST:PORT; else Ray starts here.",
        rich_help_panel=_SHARDS,
    ),
]
TaskCpus = Annotated[
    float | None,
    typer.Option(
        "--task-cpus", help="Cores that a share asks of Ray (1).", rich_help_panel=_SHARDS
    ),
]
TaskGpus = Annotated[
    float | None,
    typer.Option("--task-gpus", help="GPUs that a share asks of Ray (0).", rich_help_panel=_SHARDS),
]
_ENGINE = ("engine", "workers", "ray_address", "task_cpus", "task_gpus")
SHARDED = frozenset({"shard", "merge", "shards", *_ENGINE})
"""Names of the options that divide a job."""
IN_PARTS = frozenset({"parts", *_ENGINE} - {"task_gpus"})
"""Names of the options that prepare a data set in parts."""


def one_way(context: typer.Context) -> None:
    """Refuse options of several ways to divide a job.

    Raises:
        ConfigError: --shard, --merge and --engine exclude each other, or an option of --engine stands
            without it.
    """
    given_here = {name for name in SHARDED | IN_PARTS if context.params.get(name)}
    ways = sorted(given_here & {"shard", "merge", "engine"})
    if len(ways) > 1:
        raise ConfigError(f"--{ways[0]} and --{ways[1]} exclude each other; give one")
    alone = sorted(given_here - {"shard", "merge", "engine"})
    if alone and "engine" not in given_here:
        raise ConfigError(f"--{alone[0].replace('_', '-')} needs --engine local or --engine ray")


def build_runner(context: typer.Context) -> JobRunner:
    """The engine that the options of `SHARDED` name. Raises what `jobs.build_runner` raises."""
    from seqloom.jobs import JobOptions
    from seqloom.jobs import build_runner as build

    return build(JobOptions.build(_present(context.params, _ENGINE)))


def _present(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if values.get(name) is not None}


def given(context: typer.Context, *, apart: Collection[str]) -> dict[str, Any]:
    """The options that the user gave, by name, without the parameters named in `apart`.

    For stages with an options model: what is not given is left to the model, which alone knows the
    defaults.
    """
    return {
        name: value
        for name, value in context.params.items()
        if value is not None and name not in apart
    }


def comma_list(text: str | None, option: str) -> list[str] | None:
    """Split `a, b,"c,d"` as a CSV line: entries in quotes are kept as they are, others are stripped.

    Raises:
        ConfigError: a quote is not closed, or text follows a closing one.
    """
    if text is None:
        return None
    entries: list[str] = []
    at = 0
    while at <= len(text):
        entry = _ENTRY.match(text, at)
        if entry is None:
            raise ConfigError(
                f"{option}: the quote before {text[at:].strip()[1:21]!r} is not closed at a comma or the "
                'end; write an entry with a comma or a quote as "a,b" and double its quotes'
            )
        quoted, plain = entry.groups()
        if quoted is not None:
            entries.append(quoted.replace('""', '"'))
        elif plain.strip():
            entries.append(plain.strip())
        at = entry.end() + 1
    return entries
