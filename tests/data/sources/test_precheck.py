"""Wrong paths and columns are seen before the log is read."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from seqloom.core.errors import DataError
from seqloom.data.options import ReadOptions
from seqloom.data.sources.precheck import precheck

HEAD = "user_id,item_id,timestamp\n"


def log(folder: Path, text: str = HEAD + "u,i,1\n") -> Path:
    path = folder / "log.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_missing_items_file_is_seen_first(tmp_path: Path) -> None:
    path = log(tmp_path, HEAD + 'u,"never closed\n')
    with pytest.raises(DataError, match=r"itms\.csv does not exist; check the path"):
        precheck(path, tmp_path / "itms.csv", ReadOptions())


def test_columns_of_log_and_items(tmp_path: Path) -> None:
    path, items = log(tmp_path), tmp_path / "items.parquet"
    pl.DataFrame({"name": ["a"]}).write_parquet(items)
    with pytest.raises(DataError, match="no column 'usr'"):
        precheck(path, None, ReadOptions(user_column="usr"))
    with pytest.raises(DataError, match="items_id_column"):
        precheck(path, items, ReadOptions())
    precheck(path, items, ReadOptions(items_id_column="name"))


@pytest.mark.parametrize("text", ['"a","b"\nu,i\n', "u i\n", ""])
def test_what_the_beginning_does_not_tell_is_left_to_the_readers(tmp_path: Path, text: str) -> None:
    path = log(tmp_path, text)
    precheck(path, None, ReadOptions(format="csv", header=False))
    precheck(pl.DataFrame({"a": [1]}), None, ReadOptions())


def test_items_of_a_log_whose_columns_are_unknown_yet_are_left_to_the_readers(
    tmp_path: Path,
) -> None:
    items = tmp_path / "items.parquet"
    pl.DataFrame({"own_name": ["a"]}).write_parquet(items)
    path = tmp_path / "log.jsonl"
    path.write_text('{"user_id": "u", "own_name": "a"}\n')
    precheck(path, items, ReadOptions(item_column="own_name"))
