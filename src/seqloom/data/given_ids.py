"""Matches ids that a caller gives with the ids of a data set."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

INTEGER = r"^-?(0|[1-9]\d*)(\.0+)?$|^$"
"""An integer, written as 103 or 103.0; `007` is text."""
DECIMALS = r"^(-?(?:0|[1-9]\d*))\.0+$"
"""An integer that is written as 103.0."""


def match_ids(ids: Iterable[object], known: Container[str]) -> list[str]:
    """Converts ids given by a caller to the ids of a data set.

    103.0 becomes 103 where all given ids are integers and the data set has no id 103.0.
    """
    texts = [str(given) for given in ids]
    if not all(re.search(INTEGER, text) for text in texts):
        return texts
    return [text if text in known else re.sub(DECIMALS, r"\1", text) for text in texts]
