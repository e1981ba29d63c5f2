"""Matches ids that a caller gives with the ids of a data set."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence

from seqloom.core.errors import DataError

INTEGER = r"^-?(0|[1-9]\d*)(\.0+)?$|^$"
"""An integer, written as 103 or 103.0; `007` is text."""
DECIMALS = r"^(-?(?:0|[1-9]\d*))\.0+$"
"""An integer that is written as 103.0."""


def as_histories(
    histories: Sequence[Sequence[object]] | Sequence[object],
) -> list[list[object]]:
    """Returns histories as lists of ids. A list of ids is one history.

    Raises:
        DataError: the value is a single id, or mixes ids and histories.
    """
    if isinstance(histories, str | bytes) or not isinstance(histories, Iterable):
        raise DataError(
            f"histories is {histories!r}; give a list of item ids, or a list of such lists"
        )
    given = list(histories)
    ids = [isinstance(each, str | bytes) or not isinstance(each, Iterable) for each in given]
    if given and all(ids):
        return [given]
    if any(ids):
        raise DataError(
            f"histories mixes ids and lists: {given[ids.index(True)]!r} is an id; give a list of item ids, "
            "or a list of such lists"
        )
    return [list(each) for each in given if isinstance(each, Iterable)]


def match_ids(ids: Iterable[object], known: Container[str]) -> list[str]:
    """Converts ids given by a caller to the ids of a data set.

    103.0 becomes 103 where all given ids are integers and the data set has no id 103.0.
    """
    texts = [str(given) for given in ids]
    if not all(re.search(INTEGER, text) for text in texts):
        return texts
    return [text if text in known else re.sub(DECIMALS, r"\1", text) for text in texts]
