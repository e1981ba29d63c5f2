"""The runs of a comparison with their names, and the metrics at its cut-offs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seqloom.core.errors import ConfigError
from seqloom.runs.folder import Run, load_run

RunLike = Run | str | Path
Runs = Sequence[RunLike] | Mapping[str, RunLike]
"""Runs or their folders; a mapping gives them names."""

DEFAULT_CUTOFFS = (10,)


@dataclass(frozen=True)
class NamedRun:
    """A run and its name in the comparison."""

    name: str
    run: Run


def open_runs(runs: Runs) -> list[NamedRun]:
    """Loads runs. Without a name of its own, a run is called as its folder.

    Raises:
        ConfigError: there are fewer than two runs, a name is empty, or two runs have one name.
        ArtefactError: a folder is no run.
    """
    if isinstance(runs, str | Path):
        raise ConfigError(f"a comparison needs at least two runs; got one, {runs}")
    if len(runs) < 2:
        raise ConfigError(f"a comparison needs at least two runs; got {len(runs)}")
    if isinstance(runs, Mapping):
        opened = [NamedRun(name, _open(run)) for name, run in runs.items()]
    else:
        opened = [NamedRun(run.name, run) for run in map(_open, runs)]
    first: dict[str, NamedRun] = {}
    for each in opened:
        if not each.name.strip():
            raise ConfigError(f"the run {each.run.path} has an empty name")
        if each.name in first:
            raise ConfigError(
                f"two runs are called {each.name!r}: {first[each.name].run.path} and {each.run.path}; "
                "give them names, with a mapping from name to folder"
            )
        first[each.name] = each
    return opened


def _open(run: RunLike) -> Run:
    return run if isinstance(run, Run) else load_run(run)


def metrics_at(cutoffs: Sequence[int] | int, num_items: int) -> tuple[str, ...]:
    """Returns NDCG and HR at each cut-off; at 1 they are the same, so HR alone.

    Raises:
        ConfigError: there is no cut-off, one is not a whole number from 1 to `num_items`, or one is given
            twice.
    """
    given = [cutoffs] if isinstance(cutoffs, int) else list(cutoffs)
    if not given:
        raise ConfigError("option at is empty; give cut-offs such as 10")
    for k in given:
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ConfigError(
                f"option at: {k!r} is no cut-off; a cut-off is a whole number from 1, such as 10"
            )
        if k > num_items:
            raise ConfigError(
                f"option at: {k:,} is more than the catalogue has items ({num_items:,})"
            )
        if given.count(k) > 1:
            raise ConfigError(f"option at: the cut-off {k} is given twice")
    return tuple(
        f"{kind}@{k}" for k in given for kind in ("ndcg", "hr") if (kind, k) != ("ndcg", 1)
    )
