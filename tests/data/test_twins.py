"""Equal sequences and equal texts against naive comparisons."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.data.twins import duplicate_texts, duplicate_users, normalise

HISTORIES = st.lists(st.lists(st.integers(0, 1), max_size=7), min_size=1, max_size=30)


@settings(deadline=None)
@given(HISTORIES)
def test_duplicate_users_equal_the_naive_comparison(histories: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, histories)])
    items = np.array([i for row in histories for i in row], np.int64)
    expected = [len(row) >= 5 and histories.count(row) > 1 for row in histories]
    assert duplicate_users(items, offsets).tolist() == expected


def test_texts_are_compared_without_case_and_punctuation() -> None:
    texts = ["Red Shoe, size 4", "red  shoe (size 4)", "Red Shoe, size 5", "", "", "…"]
    assert duplicate_texts(texts).tolist() == [True, True, False, False, False, False]
    assert normalise("Ｆull－width, Straße_7") == "full width strasse 7"
