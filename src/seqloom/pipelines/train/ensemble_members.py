"""Opens trained runs as the members of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seqloom.core.errors import ConfigError
from seqloom.data.store import Dataset
from seqloom.runs.folder import Run, load_run
from seqloom.runs.manifest import MemberReference, check_fingerprint
from seqloom.systems.base import Member


@dataclass(frozen=True)
class Members:
    """The members and their runs."""

    systems: list[Member]
    references: list[MemberReference]


def load_members(dataset: Dataset, runs: Sequence[str], device: str) -> Members:
    """Opens the runs of an ensemble. Makes names unique, since runs in two folders may share one.

    Raises:
        ArtefactError: a run is missing, unfinished, damaged or of another data set.
        ConfigError: a run is named twice, or its catalogue has grown since training.
    """
    opened = [_open(dataset, Path(path), device) for path in runs]
    places = [run.path.resolve() for run in opened]
    twice = [str(place) for at, place in enumerate(places) if place in places[:at]]
    if twice:
        raise ConfigError(
            f"run {twice[0]} is named twice in `runs`; name each member only one time"
        )
    names = _make_distinct([run.name for run in opened])
    return Members(
        [Member(name, run.system) for name, run in zip(names, opened, strict=True)],
        [
            MemberReference(
                run=str(run.path.resolve()),
                system=run.manifest.system,
                weights_sha256=run.manifest.weights_sha256,
                seconds_total=run.manifest.cost.seconds_with_members,
                embed_seconds=run.manifest.embed_seconds,
            )
            for run in opened
        ],
    )


def _open(dataset: Dataset, path: Path, device: str) -> Run:
    run = load_run(path, device=device)
    check_fingerprint(run.manifest, dataset)
    if run.manifest.added_items:
        raise ConfigError(
            f"{path} has {run.manifest.added_items} items that were added after training, which the other "
            "members do not know; name the run as it was before `seqloom add-items`"
        )
    return run


def _make_distinct(names: Sequence[str]) -> list[str]:
    """Appends a number to names that occurred before."""
    distinct: list[str] = []
    for name in names:
        number, free = 2, name
        while free in distinct:
            free, number = f"{name}-{number}", number + 1
        distinct.append(free)
    return distinct
