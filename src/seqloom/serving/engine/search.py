"""Finds items by words of their texts or by ids, forgiving accents, case and typing errors."""

from __future__ import annotations

import re
import threading
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache

import numpy as np

_MOST_WORDS = 8
_MOST_PREFIXED = 2000
"""Words that one prefix may match."""
_MOST_FUZZY = 200_000
"""Words of the catalogue that are compared with a misspelt one; beyond, only prefixes match."""
_LONGEST = 24
"""Letters of a word that are compared."""
_FEWEST = 4
"""Letters of a word from which on one error is forgiven; from twice as many, two."""
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")
_LAST = chr(0x10FFFF)


def fold(text: str) -> str:
    """Returns the text without accents, case and variants of letters."""
    apart = unicodedata.normalize("NFKD", text).casefold()
    return "".join(each for each in apart if not unicodedata.combining(each))


def words_of(text: str) -> list[str]:
    """Returns the folded words of a text; emoji and the characters of CJK scripts are words."""
    folded = fold(text)
    symbols = [each for each in folded if unicodedata.category(each) == "So"]
    # A title in Thai or Arabic has vowel signs inside its words, which are neither letters nor digits.
    return [*_TOKEN.findall(folded), *symbols]


class TextIndex:
    """Finds items by words. The words of a query are prefixes, in any order.

    Rows that match every word come before those that match only most of them, exact matches before
    corrected ones.
    """

    def __init__(self, texts: Sequence[str], ids: Sequence[str] = ()) -> None:
        rows: dict[str, list[int]] = {}
        for row, text in enumerate(texts):
            for word in set(words_of(text)):
                rows.setdefault(word, []).append(row)
        self._words = sorted(rows)
        self._rows = {word: np.asarray(held, np.int32) for word, held in rows.items()}
        self._size = len(texts)
        folded = sorted((fold(item), row) for row, item in enumerate(ids))
        self._ids = [item for item, _ in folded]
        self._id_rows = np.asarray([row for _, row in folded], np.int32)
        self._lock = threading.Lock()
        self._corrected = lru_cache(maxsize=1024)(self._correct)

    def find(self, query: str, popularity: np.ndarray | None = None, limit: int = 50) -> list[int]:
        """Returns rows, the best first; none where the query has no word.

        The item of that id comes first. `popularity` orders rows that match equally.
        """
        words = list(dict.fromkeys(words_of(query)))[:_MOST_WORDS]
        hits = np.zeros(self._size, np.int8)
        worth = np.zeros(self._size, np.float32)
        for word in words:
            best = np.zeros(self._size, np.float32)
            for value, rows in self._matches(word):
                best[rows] = np.maximum(best[rows], value)
            hits += best > 0
            worth += best
        found = np.flatnonzero(hits == self._needed(hits, len(words)))
        popular = np.zeros(len(found)) if popularity is None else popularity[found]
        best_first = found[np.lexsort((found, -popular, -worth[found]))]
        return list(dict.fromkeys([*self._of_id(query), *best_first[:limit].tolist()]))[:limit]

    def _needed(self, hits: np.ndarray, words: int) -> int:
        """How many words a row must match: all, or as many as any row does if that is most of them."""
        most = int(hits.max(initial=0))
        return most if most and 2 * most > words else words + 1

    def _of_id(self, query: str) -> list[int]:
        """The rows whose id is the query or begins with it, the shortest first."""
        text = fold(query.strip())
        if not text:
            return []
        start = bisect_left(self._ids, text)
        stop = bisect_left(self._ids, text + _LAST, lo=start, hi=min(len(self._ids), start + 20))
        return self._id_rows[start:stop].tolist()

    def _matches(self, word: str) -> Iterator[tuple[float, np.ndarray]]:
        """Rows that hold a word, with the worth of the match: whole, as a prefix, corrected."""
        start = bisect_left(self._words, word)
        stop = bisect_left(self._words, word + _LAST, lo=start)
        starting = self._words[start : min(stop, start + _MOST_PREFIXED)]
        if starting and starting[0] == word:
            yield 1.0, self._rows[word]
        if starting:
            yield 0.9, self._united(starting)
        else:
            with self._lock:
                close = self._corrected(word)
            for value, words in zip((0.7, 0.6), close, strict=True):
                if words:
                    yield value, self._united(words)

    def _united(self, words: Sequence[str]) -> np.ndarray:
        return np.unique(np.concatenate([self._rows[each] for each in words]))

    def _correct(self, word: str) -> tuple[list[str], list[str]]:
        """The words that are one or two errors from `word`, and those whose beginnings are."""
        if not _FEWEST <= len(word) <= _LONGEST or not 0 < len(self._words) <= _MOST_FUZZY:
            return [], []
        allowed = 1 if len(word) < 2 * _FEWEST else 2
        codes, lengths, masks = self._letters
        lacking = np.bitwise_count(np.uint64(_mask(word)) & ~masks)
        at = np.flatnonzero((lengths >= len(word) - allowed) & (lacking <= allowed))
        whole, beginning = _errors(word, codes[at], lengths[at])

        def nearest(errors: np.ndarray) -> list[str]:
            best = min(allowed, errors.min(initial=allowed))
            return [self._words[row] for row in at[errors == best][:_MOST_PREFIXED]]

        return nearest(whole), nearest(beginning)

    @cached_property
    def _letters(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Code points, lengths and sets of letters of all words. Shapes: [W, L], [W], [W]."""
        cut = np.asarray([word[:_LONGEST] for word in self._words], f"<U{_LONGEST}")
        codes = cut.view(np.uint32).reshape(len(cut), _LONGEST)
        lengths = np.char.str_len(cut).astype(np.int16)
        masks = np.asarray([_mask(word) for word in self._words], np.uint64)
        return codes, lengths, masks


def _mask(word: str) -> int:
    """The set of a word's letters in 64 bits."""
    mask = 0
    for letter in word:
        mask |= 1 << (ord(letter) % 64)
    return mask


def _errors(word: str, codes: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the errors between `word` and each other word, and the fewest with a beginning of it.

    An error is a letter too many, missing, another, or two exchanged (optimal string alignment).

    Shapes: codes [W, L], lengths [W] -> [W], [W].
    """
    count = len(word)
    width = min(codes.shape[1], count + 2)
    before = np.zeros((len(codes), width + 1), np.int16)
    row = np.tile(np.arange(width + 1, dtype=np.int16), (len(codes), 1))
    for i, letter in enumerate(word, start=1):
        code = ord(letter)
        last = ord(word[i - 2]) if i > 1 else 0
        new = np.empty_like(row)
        new[:, 0] = i
        for j in range(1, width + 1):
            differs = codes[:, j - 1] != code
            best = np.minimum(row[:, j] + 1, new[:, j - 1] + 1)
            best = np.minimum(best, row[:, j - 1] + differs)
            if i > 1 and j > 1:
                swapped = (codes[:, j - 2] == code) & (codes[:, j - 1] == last)
                best = np.where(swapped, np.minimum(best, before[:, j - 2] + 1), best)
            new[:, j] = best
        before, row = row, new
    at_end = row[np.arange(len(row)), np.minimum(lengths, width)]
    whole = np.where(lengths > width, np.iinfo(np.int16).max, at_end)
    return whole, row[:, max(0, count - 2) :].min(1)
