"""Makes the files of a log agree on the format of their times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqloom.core.errors import DataError
from seqloom.data.assemble import check_day_order
from seqloom.data.date_formats import DayOrder
from seqloom.data.options import TimestampUnit

_UNITS: dict[str, TimestampUnit] = {
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "us",
    "nanoseconds": "ns",
}
"""Units by `Times.spelling`, the largest numbers last."""


def agree_on_times(
    files: Sequence[dict[str, Any] | None], unit: TimestampUnit, name: str
) -> tuple[TimestampUnit, bool | None]:
    """Returns the unit and the order of day and month for reading all files.

    `files` are the facts of `read_piece` about the times of each file, read with `unit`. The unit is that
    of the largest numbers, and one date with a number over 12 decides the order, as within one column.

    Raises:
        DataError: only some files have times, or they write day and month in different orders.
    """
    timed = [one for one in files if one is not None]
    if len(timed) not in (0, len(files)):
        raise DataError(
            f"some files of {name} have a time column, others have none; give all files the same columns"
        )
    spellings = {one["spelling"] for one in timed} - {"dates"}
    if len(spellings) > 1:
        unit = _UNITS[max(spellings - {"compact dates"}, key=list(_UNITS).index)]
    decided = {one["first"] for one in timed if one["first"] and not one["undecided"]}
    if len(decided) > 1:
        raise DataError(
            f"some files of {name} write the day first in dates, others the month; write all dates in one "
            "order"
        )
    undecided = [one["undecided"] for one in timed if one["undecided"]]
    if undecided and not decided:
        check_day_order(DayOrder("month", undecided[0]), name)
    # Undecided files were read with the month first.
    return unit, True if undecided and decided == {"day"} else None
