"""Codes ids of any column type as consecutive integers, in the order of first appearance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from seqloom.core.errors import DataError
from seqloom.data.given_ids import DECIMALS, INTEGER
from seqloom.data.sources.base import Column

_BLOCK = 1 << 22


@dataclass(frozen=True)
class Coded:
    """A column of ids as numbers."""

    codes: np.ndarray
    """[rows] int32; -1 where the id is missing (null, NaN or an empty string)."""
    labels: pl.Series
    """[distinct ids] strings; entry c is the id of code c, in the order of first appearance."""


def encode(column: Column, where: str) -> Coded:
    """Codes the ids of a column in the order of first appearance.

    Raises:
        DataError: the column is neither strings nor integers, or holds numbers with a fraction.
    """
    if isinstance(column, pa.ChunkedArray):
        codes, labels = _from_dictionary(column)
    else:
        series = _whole(column, where)
        if series.dtype.is_integer():
            codes, labels = _from_integers(series)
        else:
            codes, labels = _from_strings(series, where)
    return _by_appearance(codes, labels)


def id_strings(column: pl.Series, where: str, *, as_written: bool = False) -> pl.Series:
    """Converts ids to strings: an integer 7 (also if read as 7.0) becomes "7".

    A string "7.0" becomes "7" too where all ids are integers, unless `as_written`.

    Raises:
        DataError: as `encode`.
    """
    ids = _checked(_whole(column, where), where).cast(pl.String)
    decimals = not as_written and have_decimals(ids.drop_nulls())
    return without_decimals(ids) if decimals else ids


def have_decimals(labels: pl.Series) -> bool:
    """Returns whether all distinct ids are integers and some are written as 103.0.

    One id of another kind (`007`, `1.5`, `b7`) makes all ids text, so that 103 and 103.0 differ.
    """
    return count_decimals(labels) > 0 and are_integers(labels)


def are_integers(labels: pl.Series) -> bool:
    """Returns whether all ids are integers, written as 103 or 103.0; `007` is text."""
    return bool(labels.str.contains(INTEGER).all())


def without_decimals(labels: pl.Series) -> pl.Series:
    """Replaces ids such as 103.0 by 103; keeps the others."""
    return labels.str.replace(DECIMALS, "$1")


def count_decimals(labels: pl.Series) -> int:
    """Counts the distinct ids that are written as 103.0."""
    return int((without_decimals(labels) != labels).sum())


def merge_decimals(codes: np.ndarray, labels: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """Merges the codes of 103 and 103.0; for labels that `have_decimals`."""
    whole = without_decimals(labels)
    kept = whole.unique(maintain_order=True)
    numbers = pl.DataFrame({"id": kept, "number": np.arange(len(kept), dtype=np.int32)})
    joined = whole.to_frame("id").join(numbers, on="id", how="left", maintain_order="left")
    table = np.append(joined["number"].to_numpy(), np.int32(-1)).astype(np.int32)
    return table[codes], kept


def _whole(series: pl.Series, where: str) -> pl.Series:
    """Converts floats to integers: many tools read an integer column with missing values as floats."""
    if not series.dtype.is_float():
        return series
    values = series.fill_nan(None)
    odd = values.filter((values != values.round()) | (values.abs() > 2.0**53)).drop_nulls()
    if len(odd):
        raise DataError(
            f"{where}: ids must be strings or integers, but the column holds the number {odd[0]}; "
            "convert the column to strings"
        )
    return values.cast(pl.Int64)


def _checked(series: pl.Series, where: str) -> pl.Series:
    kind = series.dtype
    if kind == pl.Null:
        return series.cast(pl.String)
    if kind.is_integer() or isinstance(kind, pl.String | pl.Categorical | pl.Enum):
        return series
    raise DataError(
        f"{where}: ids must be strings or integers, but the column has type {kind}; convert it to strings"
    )


def _from_dictionary(column: pa.ChunkedArray) -> tuple[np.ndarray, pl.Series]:
    unified = column.unify_dictionaries()
    if unified.num_chunks == 0:
        return np.empty(0, np.int32), pl.Series([], dtype=pl.String)
    parts = [chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False) for chunk in unified.chunks]
    labels = pl.from_arrow(unified.chunk(0).dictionary)
    assert isinstance(labels, pl.Series)
    return np.concatenate(parts).astype(np.int32, copy=False), labels.cast(pl.String)


def _from_integers(series: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """Codes integers by a table over their range where that is small, else as strings."""
    low, high = series.min(), series.max()
    if low is None or high is None:
        return np.full(len(series), -1, np.int32), pl.Series([], dtype=pl.String)
    assert isinstance(low, int)
    assert isinstance(high, int)
    if high - low > min(max(4 * len(series), 1 << 20), 2**31 - 2) or high >= 2**63 - 1:
        return _from_strings(series.cast(pl.String), "")
    shifted = (series.cast(pl.Int64) - low).cast(pl.Int32).fill_null(-1)
    numbers = pl.int_range(low, high + 1, dtype=pl.Int64, eager=True)
    return shifted.to_numpy(), numbers


def _from_strings(series: pl.Series, where: str) -> tuple[np.ndarray, pl.Series]:
    checked = _checked(series, where)
    if not isinstance(checked.dtype, pl.Categorical):
        checked = checked.cast(pl.Categorical(pl.Categories.random()))
    codes = checked.to_physical().cast(pl.Int32).fill_null(-1).to_numpy()
    first = _first_rows(codes, int(codes.max(initial=-1)) + 1)
    labels = np.flatnonzero(first >= 0)
    seen = checked.gather(first[labels]).cast(pl.String)
    dense = np.full(len(first) + 1, -1, np.int32)
    dense[labels] = np.arange(len(labels), dtype=np.int32)
    return dense[codes], seen


def _first_rows(codes: np.ndarray, size: int) -> np.ndarray:
    """Returns [size] int64: the first row of each code, -1 for codes without a row."""
    first = np.full(size + 1, -1, np.int64)
    for end in range(len(codes), 0, -_BLOCK):
        start = max(end - _BLOCK, 0)
        # With repeated indices, the last write stays, so rows are written backwards. Missing ids (-1)
        # go to the spare last entry.
        first[codes[start:end][::-1]] = np.arange(end - 1, start - 1, -1)
    return first[:size]


def _by_appearance(codes: np.ndarray, labels: pl.Series) -> Coded:
    first = _first_rows(codes, len(labels))
    present = np.flatnonzero(first >= 0)
    order = present[np.argsort(first[present])]
    names = labels.gather(order).cast(pl.String)
    empty = (names == "").to_numpy()
    table = np.full(len(labels) + 1, -1, np.int32)
    order = order[~empty]
    table[order] = np.arange(len(order), dtype=np.int32)
    return Coded(table[codes], names.filter(~pl.Series(empty)))
