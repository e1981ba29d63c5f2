"""An evaluated run in a comparison, and which runs can be compared."""

from __future__ import annotations

from dataclasses import dataclass

from seqloom.core.errors import DataError
from seqloom.evaluation.ranks_file import RankTable
from seqloom.evaluation.record import RunRecord


@dataclass(frozen=True)
class EvaluatedRun:
    """A run's record and the ranks behind it."""

    record: RunRecord
    table: RankTable

    @property
    def name(self) -> str:
        """The record's name."""
        return self.record.name


def check_comparable(first: EvaluatedRun, second: EvaluatedRun) -> None:
    """Checks that two runs have ranks of the same users and targets under the same protocol.

    Raises:
        DataError: they do not; names the difference.
    """
    pair = f"runs {first.name!r} and {second.name!r} cannot be compared"
    for run in (first, second):
        if run.table.protocol.outdated:
            raise DataError(
                f"{pair}: of {run.name!r}, {run.table.protocol.outdated}; evaluate it again"
            )
    differing = first.table.protocol.differences(second.table.protocol)
    if differing:
        raise DataError(
            f"{pair}: they were ranked under different protocols ({'; '.join(differing)}); "
            "evaluate both on the same data set with the same options"
        )
    if not first.table.user_ids.equals(second.table.user_ids):
        raise DataError(
            f"{pair}: their ranks cover other users ({len(first.table)} and "
            f"{len(second.table)}), or the users are in another order; evaluate both again"
        )
    if not first.table.targets.equals(second.table.targets):
        raise DataError(f"{pair}: the same users have other targets; evaluate both again")
