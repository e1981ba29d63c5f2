"""Users with the same sequence, and items with the same text."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

import numpy as np

from seqloom.core.random import derive_seed

SHORTEST = 5
"""Length from which an equal sequence is no accident, in catalogues of more than a few dozen items."""
_NO_WORD = re.compile(r"[\W_]+")


def duplicate_users(items: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Returns which users have the same sequence of `SHORTEST` events or more as another user.

    Sequences are compared by 64-bit hashes.

    Shapes: items [events] from 0, offsets [users + 1] -> [users] bool.
    """
    lengths = np.diff(offsets)
    users = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(items)) - offsets[:-1][users]
    random = np.random.default_rng(derive_seed(0, "duplicate users"))
    of_items = random.integers(0, 2**64, int(items.max(initial=-1)) + 1, np.uint64)
    of_places = random.integers(0, 2**64, int(lengths.max(initial=0)), np.uint64) | np.uint64(1)
    with np.errstate(over="ignore"):
        words = of_items[items] * of_places[place]
    hashes = np.zeros(len(lengths), np.uint64)
    np.add.at(hashes, users, words)
    _, where, counts = np.unique(
        np.stack([hashes, lengths.astype(np.uint64)], 1),
        axis=0,
        return_inverse=True,
        return_counts=True,
    )
    return np.asarray((counts[where.ravel()] > 1) & (lengths >= SHORTEST))


def duplicate_texts(texts: Iterable[str]) -> np.ndarray:
    """Returns which texts equal another one after normalisation; empty texts equal none.

    Shapes: -> [texts] bool.
    """
    forms = [normalise(text) for text in texts]
    counts = Counter(forms)
    return np.array([bool(form) and counts[form] > 1 for form in forms], np.bool_)


def normalise(text: str) -> str:
    """Returns the letters and digits of a text in lower case, words separated by one blank (NFKC)."""
    return _NO_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()
