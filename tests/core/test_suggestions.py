"""Suggestions for mistyped names."""

from __future__ import annotations

from seqloom.core.suggestions import suggest


def test_the_most_similar_name_is_suggested() -> None:
    assert suggest("sasrek", ["gru4rec", "sasrec"]) == "; did you mean 'sasrec'?"


def test_nothing_is_suggested_for_an_unlike_name() -> None:
    assert suggest("xyz", ["gru4rec", "sasrec"]) == ""
