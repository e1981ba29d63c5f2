"""Finds items by words of their titles, for people who compose a history."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"\w+")
_MOST_WORDS = 8
_MOST_PREFIXED = 2000
"""Words that one prefix may match."""


class TitleIndex:
    """Finds titles by words. The words of a query are prefixes, and all must occur."""

    def __init__(self, titles: Sequence[str]) -> None:
        rows: dict[str, list[int]] = {}
        for row, title in enumerate(titles):
            for word in set(_WORD.findall(title.lower())):
                rows.setdefault(word, []).append(row)
        self._words = sorted(rows)
        self._rows = {word: np.asarray(held, np.int64) for word, held in rows.items()}

    def find(self, query: str) -> np.ndarray:
        """Returns the rows that hold every word of `query`, in order; none where it has no word.

        Shapes: -> [rows] int64.
        """
        matches: np.ndarray | None = None
        for word in _WORD.findall(query.lower())[:_MOST_WORDS]:
            start = bisect_left(self._words, word)
            stop = bisect_left(self._words, word + chr(0x10FFFF))
            starting = self._words[start : min(stop, start + _MOST_PREFIXED)]
            rows = [self._rows[each] for each in starting]
            united = np.unique(np.concatenate(rows)) if rows else np.empty(0, np.int64)
            matches = (
                united if matches is None else np.intersect1d(matches, united, assume_unique=True)
            )
            if not len(matches):
                break
        return np.empty(0, np.int64) if matches is None else matches
