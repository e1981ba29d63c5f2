"""The command that usually follows another one, as a line that can be pasted."""

from __future__ import annotations

import shlex
from pathlib import Path

_MOST_RUNS = 4
"""Runs that a suggested comparison names."""


def command(name: str, *arguments: str | Path) -> str:
    """Returns a call of `seqloom`, with its arguments quoted for a shell."""
    return shlex.join(["seqloom", name, *map(str, arguments)])


def after_embed(dataset: str | Path) -> str:
    """Returns the training of the system that uses text most."""
    return command("train", dataset, "--system", "llmesr", "--out", "runs/llmesr")


def after_prepare(dataset: str | Path, *, has_text: bool) -> str:
    """Returns the embedding of the items' texts, or a training without text."""
    if has_text:
        return command("embed", dataset)
    return command("train", dataset, "--system", "sasrec", "--out", "runs/sasrec")


def after_evaluate(run: Path) -> str:
    """Returns a comparison with the runs beside this one that were evaluated on the same data set.

    Without any, how to serve it.
    """
    own, fingerprint = run.absolute(), _fingerprint(run)
    others = sorted(
        each.parent
        for each in own.parent.glob("*/metrics.json")
        if each.parent != own and _fingerprint(each.parent) == fingerprint
    )
    if fingerprint is None or not others:
        return command("serve", run)
    beside = [run.parent / other.name for other in others[: _MOST_RUNS - 1]]
    return command("compare", *beside, run, "--report", "report.html")


def _fingerprint(run: Path) -> str | None:
    """Returns the fingerprint of a run's data set; None where the folder cannot be read."""
    from seqloom.core.errors import ArtefactError
    from seqloom.runs.manifest import read_manifest

    try:
        return read_manifest(run).dataset.fingerprint
    except ArtefactError:
        return None
