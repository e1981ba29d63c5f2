"""Ids of any type to numbers by first appearance."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqloom.core.errors import DataError
from seqloom.data import codes
from seqloom.data.codes import encode, have_decimals, id_strings, merge_decimals
from seqloom.data.given_ids import match_ids

IDS = st.lists(st.none() | st.sampled_from(["", "a", "b", "ab", "é", "7"]), max_size=30)


def naive(values: list[str | None]) -> tuple[list[int], list[str]]:
    labels: dict[str, int] = {}
    numbers = [labels.setdefault(v, len(labels)) if v else -1 for v in values]
    return numbers, list(labels)


def both(column: pl.Series | pa.ChunkedArray) -> tuple[list[int], list[str]]:
    coded = encode(column, "log")
    return coded.codes.tolist(), coded.labels.to_list()


@settings(deadline=None)
@given(IDS, st.integers(1, 7))
def test_strings_categories_and_dictionaries(values: list[str | None], block: int) -> None:
    expected = naive(values)
    series = pl.Series(values, dtype=pl.String)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codes, "_BLOCK", block)
        assert both(series) == expected
        assert both(series.cast(pl.Categorical(pl.Categories.random()))) == expected
        chunks = [
            pa.array(values[i : i + 3], pa.string()).dictionary_encode()
            for i in range(0, len(values), 3)
        ]
        kind = pa.dictionary(pa.int32(), pa.string())
        assert both(pa.chunked_array(chunks, kind)) == expected


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(-3, 5) | st.sampled_from([2**40, -(2**62)]), max_size=20))
def test_integers_near_and_far(values: list[int | None]) -> None:
    expected = naive([None if v is None else str(v) for v in values])
    assert both(pl.Series(values, dtype=pl.Int64)) == expected


def test_unsigned_and_whole_floats() -> None:
    assert both(pl.Series([2**64 - 1, 2**64 - 2], dtype=pl.UInt64))[1] == [
        "18446744073709551615",
        "18446744073709551614",
    ]
    assert both(pl.Series([7.0, None, float("nan"), 8.0])) == ([0, -1, -1, 1], ["7", "8"])
    assert id_strings(pl.Series([7.0]), "log").to_list() == ["7"]


@pytest.mark.parametrize("values", [[0.5], [2.0**60], [float("inf")], [True], [[1]]])
def test_types_that_are_no_ids(values: list[object]) -> None:
    with pytest.raises(DataError, match="ids must be strings or integers"):
        encode(pl.Series(values), "log")


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["103.0", "104.0"], True),
        (["103", "103.0", "-7.00", "0.0"], True),
        (["103", "104"], False),  # nothing to do
        (["103.0", "007"], False),
        (["103.0", "1.5"], False),
        (["103.0", "b7"], False),
        (["103.0", " 7"], False),
        (["1.50", "1.5"], False),
        (["v1.0", "1.0.0"], False),
    ],
)
def test_decimals_are_dropped_from_columns_of_integers_alone(
    ids: list[str], expected: bool
) -> None:
    assert have_decimals(pl.Series(ids)) is expected


def test_one_integer_is_one_id() -> None:
    coded = encode(pl.Series(["103.0", "7", "", "103", "7.00", "8"]), "log")
    codes_, labels = merge_decimals(coded.codes, coded.labels)
    assert codes_.tolist() == [0, 1, -1, 0, 1, 2]
    assert labels.to_list() == ["103", "7", "8"]
    assert id_strings(pl.Series(["7.0", None, ""]), "items").to_list() == ["7", None, ""]
    assert id_strings(pl.Series(["7.0"]), "items", as_written=True).to_list() == ["7.0"]
    assert id_strings(pl.Series(["7.0", "x"]), "items").to_list() == ["7.0", "x"]


def test_ids_that_somebody_gives() -> None:
    assert match_ids(["103.0", "104"], {"103", "104"}) == ["103", "104"]
    assert match_ids(["103.0"], {"103", "103.0"}) == ["103.0"]
    assert match_ids(["103.0", "b7"], {"103", "b7"}) == ["103.0", "b7"]
    assert match_ids([103.0, 7], {"103", "7"}) == ["103", "7"]
