"""Histories as callers give them."""

from __future__ import annotations

import pytest

from seqloom.core.errors import DataError
from seqloom.data.given_ids import as_histories


def test_one_list_of_ids_is_one_history() -> None:
    assert as_histories(["a", "b"]) == [["a", "b"]]
    assert as_histories([1, 2]) == [[1, 2]]
    assert as_histories([["a"], ["b"]]) == [["a"], ["b"]]
    assert as_histories([[]]) == [[]]
    assert as_histories([]) == []


@pytest.mark.parametrize("given", ["a", 7])
def test_a_single_id_is_refused(given: object) -> None:
    with pytest.raises(DataError, match="give a list of item ids, or a list of such lists"):
        as_histories(given)  # type: ignore[arg-type]


def test_a_mixture_is_refused() -> None:
    with pytest.raises(DataError, match="mixes ids and lists: 'b' is an id"):
        as_histories([["a"], "b"])
