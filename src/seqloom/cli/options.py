"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

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
MaskSeen = Annotated[
    bool,
    typer.Option(
        "--mask-seen/--no-mask-seen", help="Leave out the items that the user has already seen."
    ),
]
Part = Annotated[
    Literal["test", "valid"], typer.Option("--on", help="The held-out part that counts.")
]


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


def comma_list(text: str | None) -> list[str] | None:
    """`a, b,c` as a list."""
    if text is None:
        return None
    return [part.strip() for part in text.split(",") if part.strip()]
