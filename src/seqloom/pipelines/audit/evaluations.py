"""Checks the targets, groups and sampled items of a run's evaluations against the data set."""

from __future__ import annotations

from pathlib import Path

import torch

from seqloom.core.errors import SeqloomError
from seqloom.core.progress import Progress
from seqloom.core.protocols import NamesItems
from seqloom.core.random import generator
from seqloom.data.sequences import Sequences
from seqloom.data.store import Dataset, HeldOut
from seqloom.evaluation.groups import default_thresholds
from seqloom.evaluation.metrics import MISSED
from seqloom.evaluation.negatives import sample_negatives
from seqloom.evaluation.ranks_file import RankTable, build_rank_table, read_ranks
from seqloom.pipelines.audit.report import Checks
from seqloom.pipelines.evaluate.evaluate import rank_held_out
from seqloom.pipelines.evaluate.stored import thresholds_are_given
from seqloom.runs.folder import Run

_AGAIN = "run `seqloom evaluate` again"
_SAMPLE = 64
_ALIKE = 0.9
"""Least share of ranks that are reproduced within a tenth; another device rounds scores differently."""


def check_evaluations(
    run: Run, data: Dataset, checks: Checks, *, thorough: bool, progress: Progress
) -> None:
    """Checks every rank file of the run."""
    for file in sorted(run.path.glob("ranks*.parquet")):
        try:
            table = read_ranks(file)
        except SeqloomError as error:
            checks.judge(
                file.name, "the held-out part", False, good="", bad=str(error), action=_AGAIN
            )
            continue
        _check_targets(file, table, data, checks)
        _check_thresholds(file, table, data, checks)
        if table.protocol.outdated:
            checks.unknown(
                f"ranks, {file.name}",
                "histories before the targets",
                table.protocol.outdated,
                _AGAIN,
            )
            continue
        if table.protocol.kind == "sampled":
            _check_negatives(file, table, data, checks)
        _check_ranks(file, table, run, data, checks, thorough=thorough, progress=progress)


def _check_targets(file: Path, table: RankTable, data: Dataset, checks: Checks) -> None:
    held_out = data.held_out(table.protocol.part)
    expected = build_rank_table(
        data,
        table.protocol,
        users=held_out.users,
        targets=held_out.targets,
        ranks=torch.ones_like(held_out.users),
        history_lengths=held_out.histories.lengths,
        repeats=None if table.protocol.outdated else held_out.repeats,
        # Evaluations of older versions do not know ties.
        tied=None if table.tied is None else held_out.tied,
    )
    same = table.protocol.fingerprint == data.fingerprint and len(table) == len(expected)
    columns = ("user_ids", "targets", "history_lengths", "training_lengths", "target_counts")
    differing = [
        name
        for name in (*columns, "repeats", "tied")
        if same and not _equal(getattr(table, name), getattr(expected, name))
    ]
    checks.judge(
        f"targets and counts, {file.name}",
        f"targets: {table.protocol.part} part; counts: training part",
        same and not differing,
        good=f"{len(table):,} users, targets and counts are the data set's",
        bad=f"{', '.join(differing)} differ from the data set's"
        if same
        else "the file belongs to other users or to another data set",
        action=_AGAIN,
    )


def _check_ranks(
    file: Path,
    table: RankTable,
    run: Run,
    data: Dataset,
    checks: Checks,
    *,
    thorough: bool,
    progress: Progress,
) -> None:
    """Ranks a sample of targets again, from their histories alone."""
    what = (f"ranks, {file.name}", f"histories before the targets; {table.protocol.kind} ranking")
    held_out = data.held_out(table.protocol.part)
    if table.protocol.fingerprint != data.fingerprint or len(table) != len(held_out.users):
        return  # reported by _check_targets
    names = isinstance(run.system, NamesItems)
    if data.num_cold_items and names and not thorough:
        why = "cold items must be named again"
        checks.unknown(*what, why, "audit with --thorough")
        return
    rows = torch.randperm(len(table), generator=generator(0, "audit", "ranks"))[:_SAMPLE]
    rows = rows.sort().values
    few = HeldOut(held_out.users[rows], held_out.histories.select(rows), held_out.targets[rows])
    ranks = rank_held_out(run, data, few, table.protocol, progress)[0].ranks
    kept = table.ranks[rows]
    apart = (ranks - kept).abs() > (0.1 * kept).clamp(min=2)
    alike = 1 - float(apart.double().mean())
    checks.judge(
        *what,
        alike >= _ALIKE,
        good=f"{len(rows)} targets ranked again have these ranks, up to rounding",
        bad=f"of {len(rows)} targets ranked again {int(apart.sum())} have other ranks",
        action=_AGAIN,
    )


def _equal(first: object, second: object) -> bool:
    if first is None or second is None:
        return first is second
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return torch.equal(first, second)
    return bool(first.to_pylist() == second.to_pylist())  # type: ignore[attr-defined]


def _check_thresholds(file: Path, table: RankTable, data: Dataset, checks: Checks) -> None:
    what = (f"thresholds of the groups, {file.name}", "training part")
    expected, stored = default_thresholds(data), table.thresholds
    if stored != expected and thresholds_are_given(file):
        checks.unknown(*what, f"set by hand: {stored.item} for items, {stored.user} for users")
        return
    checks.judge(
        *what,
        stored == expected,
        good=f"{stored.item} for items, {stored.user} for users, computed again",
        bad=f"{stored.item} and {stored.user}; the training part gives {expected.item} and {expected.user}",
        action=_AGAIN,
    )


def _check_negatives(file: Path, table: RankTable, data: Dataset, checks: Checks) -> None:
    """Draws the sampled items again; none may be an item of the user in any part."""
    protocol = table.protocol
    users = data.held_out(protocol.part).users
    if len(table) != len(users):
        return  # reported by _check_targets
    drawn = sample_negatives(data, users, protocol.negatives or 1, protocol.seed or 0)
    events = data.events
    rows, own = (
        Sequences(events.items, events.offsets[:-1], events.offsets[1:]).select(users).flat()
    )
    stride = data.num_items + 1
    at = torch.arange(len(users))[:, None].expand_as(drawn)[drawn > 0]
    hits = torch.isin(at * stride + drawn[drawn > 0], rows * stride + own)
    beyond = (table.ranks > (drawn > 0).sum(1) + 1) & (table.ranks < MISSED)
    too_far = int(beyond.sum())
    checks.judge(
        f"sampled items, {file.name}",
        "the users' items in all parts, to leave them out",
        not bool(hits.any()) and not too_far,
        good=f"drawn again: {drawn.shape[1]} a user, none an item of the user",
        bad=f"{int(hits.sum())} are items of their user; {too_far} ranks lie beyond the sample",
        action=_AGAIN,
    )
