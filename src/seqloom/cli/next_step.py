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
    """Returns a comparison with the evaluated runs beside this one; without any, how to serve it."""
    others = sorted(
        each.parent
        for each in run.absolute().parent.glob("*/metrics.json")
        if each.parent != run.absolute()
    )
    if not others:
        return command("serve", run)
    beside = [run.parent / other.name for other in others[: _MOST_RUNS - 1]]
    return command("compare", *beside, run, "--report", "report.html")
