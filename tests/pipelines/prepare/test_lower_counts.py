"""Small data: what lower bounds keep is told, with what users can do."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from seqloom.core.errors import DataError
from seqloom.core.progress import SilentProgress
from seqloom.pipelines.prepare.prepare import prepare


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, message: str) -> None:
        self.texts.append(message)


def small_log(users: int, events: int, items: int) -> pl.DataFrame:
    rows = [(f"u{u}", f"i{(u + e) % items}") for u in range(users) for e in range(events)]
    return pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")


def test_an_empty_core_offers_bounds_that_keep_something(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        prepare(small_log(12, 3, 6), tmp_path / "out")
    text = str(error.value)
    assert "no user has 5 events with items of 5. Lower min_count: " in text
    assert "4 keeps" not in text
    assert "3 keeps 36 events of 12 users and 6 items (12 users with the three events that" in text
    prepare(small_log(12, 3, 6), tmp_path / "out", min_count=3)


def test_a_core_without_a_way_out_says_so(tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"]})
    with pytest.raises(DataError, match="1 keeps 2 events of 2 users and 2 items"):
        prepare(log, tmp_path / "out")


def test_a_small_core_is_noted(tmp_path: Path) -> None:
    log = pl.concat(
        [small_log(8, 5, 8), small_log(40, 2, 8).with_columns(user_id="v" + pl.col("user_id"))]
    )
    notes = Notes()
    prepare(log, tmp_path / "out", progress=notes)
    (text,) = [text for text in notes.texts if text.startswith("min_count keeps 33% of the events")]
    assert "2 keeps 120 events of 48 users and 8 items" in text


def test_a_large_core_is_not(tmp_path: Path) -> None:
    notes = Notes()
    prepare(small_log(30, 6, 10), tmp_path / "out", progress=notes)
    assert not any("min_count" in text for text in notes.texts)


def test_numbers_and_dates_in_one_column_are_read_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = ["user_id,item_id,timestamp"]
    for user in range(6):
        for step in range(5):
            when = 1690000000 + step if step % 2 else f"2023-07-2{2 + step}T10:15:00"
            rows.append(f"u{user},i{step},{when}")
    path.write_text("\n".join(rows) + "\n")
    dataset = prepare(path, tmp_path / "out")
    (warning,) = [w for w in dataset.manifest.warnings if "mixed" in w["kind"]]
    assert warning["count"] == 12
    assert dataset.num_events == 30
