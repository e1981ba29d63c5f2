"""A data set prepared in parts is the one that `prepare` makes: ids, events, split, statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqloom.core.errors import ArtefactError, DataError
from seqloom.data.store import Dataset
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.out_of_core import prepare_out_of_core
from seqloom.pipelines.prepare.prepare import prepare
from support.equal_datasets import assert_equal
from support.event_logs import make_log, write_files
from support.inline_runner import InlineRunner

ROWS = 900


OPTIONS: dict[str, dict[str, Any]] = {
    "5-core": {},
    "all": {"min_count": 0},
    "apart": {"min_count": 3, "min_user_count": 2, "min_item_count": 6},
    "rating": {"min_rating": 3.0, "min_count": 3},
    "first": {"duplicates": "first", "min_count": 3},
    "consecutive": {"duplicates": "consecutive", "min_count": 3},
    "temporal": {"split": "temporal", "min_count": 3},
    "bounds": {"split": "temporal", "valid_from": 1_500_100_000, "test_from": 1_500_200_000},
    "cold items": {"cold_items": 0.2, "min_count": 3},
    "cold items in time": {"cold_items": 0.2, "split": "temporal", "min_count": 3},
    "cold users": {"cold_users": 0.1, "min_count": 2},
    "shuffled ties": {"ties": "shuffle", "min_count": 3, "duplicates": "consecutive"},
    "shuffled with another seed": {"ties": "shuffle", "tie_seed": 7, "cold_items": 0.2},
    "tied targets dropped": {"ties": "drop-targets", "min_count": 3},
    "the same in time": {"ties": "drop-targets", "split": "temporal", "min_count": 3},
    "seen items kept": {"mask_seen": "no", "min_count": 3},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_parts_equal_one_machine(name: str, tmp_path: Path) -> None:
    log = make_log(len(name))
    options = PrepareOptions.build(OPTIONS[name])
    items = pl.DataFrame(
        {"item_id": [f"i{n}" for n in range(80)], "title": [f"t{n}" for n in range(80)]}
    )
    expected = prepare(log, tmp_path / "one", items=items, options=options)
    folder = write_files(log, tmp_path / "log", 4)
    made = prepare_out_of_core(
        InlineRunner(), folder, tmp_path / "parts", items=items, options=options, parts=3
    )
    assert_equal(made, expected)
    assert len(made.manifest.parts) == 3
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
@settings(
    deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6), files=st.integers(1, 6), parts=st.integers(1, 9))
def test_any_cut_of_the_log_gives_the_same(
    seed: Any, files: Any, parts: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("cut")
    log, options = make_log(seed, 300), PrepareOptions(min_count=2)
    expected = prepare(log, place / "one", options=options)
    folder = write_files(log, place / "log", files)
    assert_equal(
        prepare_out_of_core(InlineRunner(), folder, place / "parts", options=options, parts=parts),
        expected,
    )


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_text_files_are_read_as_one(kind: str, tmp_path: Path) -> None:
    log = make_log(5)
    log = log.with_columns(
        pl.col("timestamp").cast(pl.Int64), user_id=pl.col("user_id").str.tail(-1)
    )
    expected = prepare(log, tmp_path / "one", options=PrepareOptions(min_count=3))
    folder = write_files(log, tmp_path / "log", 3, kind)
    options = PrepareOptions(min_count=3)
    assert_equal(
        prepare_out_of_core(InlineRunner(), folder, tmp_path / "parts", options=options, parts=2),
        expected,
    )


def test_missing_values_are_counted_over_all_files(tmp_path: Path) -> None:
    log = make_log(6).with_columns(
        user_id=pl.when(pl.int_range(pl.len()) % 50 == 7).then(None).otherwise("user_id"),
        item_id=pl.when(pl.int_range(pl.len()) % 60 == 9).then(None).otherwise("item_id"),
    )
    options = PrepareOptions(min_count=2, missing="drop")
    expected = prepare(log, tmp_path / "one", options=options)
    folder = write_files(log, tmp_path / "log", 3)
    assert_equal(
        prepare_out_of_core(InlineRunner(), folder, tmp_path / "two", options=options, parts=2),
        expected,
    )
    with pytest.raises(DataError, match=r"log-00.parquet, row 8: no user"):
        prepare_out_of_core(
            InlineRunner(), folder, tmp_path / "three", options=PrepareOptions(), parts=2
        )


def test_files_that_seem_to_differ_in_their_unit_are_read_in_the_one_of_all(tmp_path: Path) -> None:
    """Milliseconds shortly after 1970 look like seconds where a file holds no others."""
    times = [1_000 * n for n in range(40)] + [1_500_000_000_000 + 1_000 * n for n in range(40)]
    log = pl.DataFrame(
        {"user_id": ["a", "b"] * 40, "item_id": ["x", "y", "z", "x"] * 20, "timestamp": times}
    )
    options = PrepareOptions(min_count=0)
    expected = prepare(log, tmp_path / "one", options=options)
    folder = tmp_path / "log"
    folder.mkdir()
    log[:40].write_parquet(folder / "a.parquet")
    log[40:].write_parquet(folder / "b.parquet")
    assert_equal(
        prepare_out_of_core(InlineRunner(), folder, tmp_path / "parts", options=options, parts=2),
        expected,
    )


def test_fractions_of_seconds_in_some_parts_only(tmp_path: Path) -> None:
    """Times of one second are no tie where they differ by less; a part of whole seconds says so too."""
    log = make_log(4).with_columns(
        timestamp=pl.col("timestamp") * 1000
        + pl.when(pl.col("user_id") == "u9").then(pl.int_range(pl.len()) % 2).otherwise(0)
    )
    options = PrepareOptions(min_count=2, ties="drop-targets")
    expected = prepare(log, tmp_path / "one", options=options)
    folder = write_files(log, tmp_path / "log", 3)
    made = prepare_out_of_core(InlineRunner(), folder, tmp_path / "parts", options=options, parts=4)
    assert_equal(made, expected)
    assert made.events.joined is not None
    assert made.tied is not None
    assert expected.tied is not None
    assert made.tied.tolist() == expected.tied.tolist()


def test_sorted_sequences_are_refused_in_parts_too(tmp_path: Path) -> None:
    rows = [
        (f"u{u}", f"i{(u * 7 + 3 * n) % 50 + 50 * n:04d}", n) for u in range(60) for n in range(6)
    ]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    folder = write_files(log, tmp_path / "log", 3)
    options = PrepareOptions(min_count=0)
    with pytest.raises(DataError, match="set allow_sorted to go on"):
        prepare_out_of_core(InlineRunner(), folder, tmp_path / "parts", options=options, parts=3)
    assert not list(tmp_path.glob("*parts*"))
    allowed = PrepareOptions(min_count=0, allow_sorted=True)
    assert_equal(
        prepare_out_of_core(InlineRunner(), folder, tmp_path / "parts", options=allowed, parts=3),
        prepare(log, tmp_path / "one", options=allowed),
    )


def test_shuffling_ties_needs_times_in_parts_too(tmp_path: Path) -> None:
    folder = write_files(make_log(3).drop("timestamp"), tmp_path / "log", 2)
    with pytest.raises(DataError, match="needs times, but the log has none"):
        prepare_out_of_core(
            InlineRunner(),
            folder,
            tmp_path / "x",
            options=PrepareOptions(min_count=2, ties="shuffle"),
        )


TEXTS = {
    "users with decimals": ("1{}.0,i{},169{}0", "1{},i{},169{}0"),
    "users that are text": ("1{}.0,i{},169{}0", "b{},i{},169{}0"),
    "items with decimals": ("u{},1{}.0,169{}0", "u{},1{},169{}0"),
    "items that are text": ("u{},1{}.0,169{}0", "u{},1{},169{}0\nu,x,5"),
    "dates after numbers": ("u{},i{},16900000{}", "u{},i{},2023-07-{}T10:00:00"),
    "months by another file": ("u{},i{},2/1/20{}", "u{},i{},13/1/20{}"),
    "compact dates beside numbers": ("u{},i{},200001{}", "u{},i{},16900000{}"),
    "equal times": ("u{},i{},99", "u{},i{},16900000{}"),
}
"""Lines of two files, with places for a user, an item and a number from 10 to 27."""


@pytest.mark.parametrize("name", TEXTS)
def test_what_all_files_decide_is_decided_as_in_one(name: str, tmp_path: Path) -> None:
    first, second = TEXTS[name]
    folder = tmp_path / "log"
    folder.mkdir()
    rows = []
    for file, form in (("a", first), ("b", second)):
        mine = [form.format(n % 4, n % 3, 10 + n) for n in range(18)]
        rows += mine
        (folder / f"{file}.csv").write_text("\n".join(["user_id,item_id,timestamp", *mine]))
    (tmp_path / "one.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    options = PrepareOptions(min_count=0)
    expected = prepare(tmp_path / "one.csv", tmp_path / "one", options=options)
    made = prepare_out_of_core(InlineRunner(), folder, tmp_path / "two", options=options, parts=3)
    assert_equal(made, expected)


def test_days_and_months_that_no_file_tells_apart(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    for file in ("a", "b"):
        (folder / f"{file}.csv").write_text("user_id,item_id,timestamp\nu,i,1/2/2014\n")
    with pytest.raises(DataError, match="may have the day or the month first"):
        prepare_out_of_core(
            InlineRunner(), folder, tmp_path / "out", options=PrepareOptions(), parts=2
        )
    (folder / "a.csv").write_text("user_id,item_id,timestamp\nu,i,13/2/2014\n")
    (folder / "b.csv").write_text("user_id,item_id,timestamp\nu,i,2/13/2014\n")
    with pytest.raises(
        DataError, match=r"some files of .* write the day first in dates, others the month"
    ):
        prepare_out_of_core(
            InlineRunner(), folder, tmp_path / "out", options=PrepareOptions(), parts=2
        )


def test_quotes_are_decided_file_by_file(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    head = "user_id,item_id,timestamp,comment\n"
    (folder / "a.csv").write_text(head + 'u,a,1,"one, two"\nu,b,2,x\n')
    (folder / "b.csv").write_text(head + 'u,c,3,"open\nu,d,4,x\nu,e,5,x\n')
    made = prepare_out_of_core(
        InlineRunner(), folder, tmp_path / "out", options=PrepareOptions(min_count=0), parts=2
    )
    assert made.manifest.statistics["raw"]["rows"] == 5
    (actual,) = [w for w in made.manifest.warnings if w["kind"] == "unclosed-quote"]
    assert actual["examples"] == ["b.csv, line 2"]
    assert [s.get("reading", {}).get("quote") for s in made.manifest.sources] == [None, "none"]


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    log = make_log(1, 50)
    log.write_parquet(folder / "a.parquet")
    log.drop("timestamp").write_parquet(folder / "b.parquet")
    with pytest.raises(DataError, match="have a time column, others have none"):
        prepare_out_of_core(InlineRunner(), folder, tmp_path / "out", parts=2)
    (tmp_path / "u.data").write_text("1\t2\t3\t881250949\n")
    with pytest.raises(DataError, match="an engine reads"):
        prepare_out_of_core(InlineRunner(), tmp_path / "u.data", tmp_path / "out", parts=2)
    log.write_parquet(tmp_path / "a.parquet")
    many = PrepareOptions(min_count=40)
    with pytest.raises(DataError, match=r"after filtering \(50 events read, 0 after k-core\)"):
        prepare_out_of_core(InlineRunner(), tmp_path / "a.parquet", tmp_path / "out", options=many)
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / "out").exists()


def test_a_job_resumes_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = make_log(3)
    folder = write_files(log, tmp_path / "log", 3)
    with pytest.raises(KeyboardInterrupt):
        prepare_out_of_core(InlineRunner(stop_after=8), folder, tmp_path / "out", parts=3)
    assert not (tmp_path / "out").exists()
    engine = InlineRunner()
    made = prepare_out_of_core(engine, folder, tmp_path / "out", parts=3)
    assert_equal(made, prepare(log, tmp_path / "one"))
    again = InlineRunner()
    prepare_out_of_core(again, folder, tmp_path / "more", parts=3)
    assert engine.worked < again.worked, "finished pieces were done again"


def test_a_part_that_was_changed_is_noticed(tmp_path: Path) -> None:
    made = prepare_out_of_core(
        InlineRunner(), write_files(make_log(2), tmp_path / "log", 2), tmp_path / "out", parts=2
    )
    file = made.path / "events" / "part-00001.safetensors"
    file.write_bytes((made.path / "events" / "part-00000.safetensors").read_bytes())
    with pytest.raises(ArtefactError, match="manifest says"):
        Dataset.load(made.path)
    file.unlink()
    with pytest.raises(ArtefactError, match="is missing"):
        Dataset.load(made.path)


def test_an_older_seqloom_learns_the_format(tmp_path: Path) -> None:
    made = prepare_out_of_core(
        InlineRunner(), write_files(make_log(2), tmp_path / "log", 2), tmp_path / "out", parts=2
    )
    assert json.loads((made.path / "manifest.json").read_text())["version"] == 2
