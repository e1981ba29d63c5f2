"""Every kind of bad input: the error names the place, or the warning is counted."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from seqloom.core.errors import DataError
from seqloom.data.store import Dataset
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare

OPTIONS = {"min_count": 0}
HEAD = b"user_id,item_id,timestamp\n"
GOOD = HEAD + b"u,a,1\nu,b,2\nu,c,3\n"


def run(tmp_path: Path, source: object, items: object = None, **options: object) -> dict[str, int]:
    """Prepare; the warnings as kind to count."""
    chosen = PrepareOptions.build(OPTIONS | options)
    dataset = prepare(source, tmp_path / "out", items=items, options=chosen)
    return {record["kind"]: record["count"] for record in dataset.manifest.warnings}


def file(tmp_path: Path, data: bytes, name: str = "log.csv") -> Path:
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


ERRORS = {
    "empty file": ("log.csv", b"", "is empty"),
    "blank file": ("log.csv", b"\n \n", "is empty"),
    "header only": ("log.csv", HEAD, "is empty"),
    "missing column": ("log.csv", b"name,item_id\nu,a\n", "no user column; columns: name, item_id"),
    "long line": ("log.csv", GOOD + b"u,d,4,5\n", "line 5: 4 fields, 3 are needed"),
    "short line": ("log.csv", GOOD + b"u,d\n", "line 5: 2 fields, 3 are needed"),
    "text time": ("log.csv", GOOD + b"u,d,soon\n", "'timestamp', line 5: 'soon' is not a timestamp"),
    "bad date": ("log.csv", HEAD + b"u,a,2014-01-02\nu,b,2014-13-02\n", "line 3: '2014-13-02'"),
    "no time": ("log.csv", GOOD + b"u,d,\n", "line 5: no timestamp"),
    "no user": ("log.csv", GOOD + b",d,4\n", "line 5: no user"),
    "no item": ("log.csv", GOOD + b'u,"",4\n', "line 5: no item"),
    "latin-1": ("log.csv", GOOD + b"u,caf\xe9,4\n", "line 5: byte 0xe9 .*encoding='latin-1'"),
    "utf-16": ("log.csv", "user_id,item_id\nu,a\n".encode("utf-16-le"), "UTF-16 without a byte"),
    "half utf-16": ("log.csv", "user_id,item_id\nu,a\n".encode("utf-16")[:-1], "is not UTF-16"),
    "not gzip": ("log.csv.gz", GOOD, "cannot be read"),
    "twice the column": ("log.csv", b"user_id,item_id,item_id\nu,a,b\n", "several col|more than"),
    "bad rating": ("log.csv", b"user_id,item_id,rating\nu,a,1\nu,b,good\n", "line 3: 'good' is no"),
    "not parquet": ("log.parquet", GOOD, "cannot be read as Parquet"),
    "broken json": ("log.jsonl", b'{"user": 1, "item": 2}\n{"user": 1,\n', "line 2: not JSON"),
    "no object": ("log.jsonl", b'{"user": 1, "item": 2}\n[1]\n', "line 2: a JSON list"),
    "json bytes": ("log.jsonl", b'{"user": "\xe9", "item": 2}\n', "line 1: byte 0xe9"),
    "json nested": ("log.jsonl", b'{"user": {"id": 1}, "item": 2}\n', "'user' .* holds a JSON dict"),
    "json null id": ("log.jsonl", b'{"user": 1, "item": 2}\n\n{"user": 1}\n', "line 3: no item"),
    "untyped": ("x.inter", b"user_id\titem_id\n1\t2\n", "no RecBole type"),
    "dat fields": ("ratings.dat", b"1::2::3::4\n1::2::3\n", "line 2: 3 fields"),
    "u.data line": ("u.data", b"1\t2\t3\t4\n1\t2\t3\n", "line 2: 3 fields"),
    "alone": ("s.txt", b"u\nv\n", "neither a table nor lines"),
    "unknown suffix": ("log.xlsx", b"x", "the format of '.xlsx' files is not known"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_place(tmp_path: Path, case: str) -> None:
    name, data, message = ERRORS[case]
    with pytest.raises(DataError, match=message) as caught:
        run(tmp_path, file(tmp_path, data, name))
    assert name in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_line_numbers_count_lines_inside_quotes(tmp_path: Path) -> None:
    path = file(tmp_path, b'user_id,item_id,note\nu,a,"1\n2\n3"\nu,,x\n')
    with pytest.raises(DataError, match="line 5: no item"):
        run(tmp_path, path)


def test_missing_file_and_missing_override(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nope\.csv does not exist"):
        run(tmp_path, tmp_path / "nope.csv")
    path = file(tmp_path, GOOD)
    with pytest.raises(DataError, match="no column 'who'"):
        run(tmp_path, path, user_column="who")
    with pytest.raises(DataError, match=r"items\.csv does not exist"):
        run(tmp_path, path, tmp_path / "items.csv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="a folder with an unknown format"):
        run(tmp_path, tmp_path / "folder")


def test_frames_that_are_none_or_mixed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a list is not a data source"):
        run(tmp_path, [1, 2])
    with pytest.raises(DataError, match="column 'item_id' holds values of several types"):
        run(tmp_path, pd.DataFrame({"user_id": [1, 2], "item_id": [1, "x"]}))
    with pytest.raises(DataError, match="the column has type Boolean"):
        run(tmp_path, pl.DataFrame({"user_id": [True], "item_id": [1]}))
    with pytest.raises(DataError, match=r"pandas\.DataFrame: Expected unique column names"):
        run(tmp_path, pd.DataFrame([[1, 2, 3]], columns=["user_id", "item_id", "item_id"]))
    with pytest.raises(DataError, match="row 2: no user"):
        run(tmp_path, pd.DataFrame({"user_id": [1, None], "item_id": [1, 2]}))


def test_missing_values_may_be_dropped_and_are_counted(tmp_path: Path) -> None:
    path = file(tmp_path, GOOD + b",d,4\nu,,5\nu,e,\n,,\n")
    actual = run(tmp_path, path, missing="drop")
    assert {kind: n for kind, n in actual.items() if kind.startswith("missing")} == {
        "missing-user": 2,
        "missing-item": 2,
        "missing-timestamp": 2,
    }


def test_empty_after_filtering_names_every_step(tmp_path: Path) -> None:
    path = file(tmp_path, b"user_id,item_id,rating\nu,a,1\nu,b,5\n")
    with pytest.raises(DataError, match="2 events read, 1 after min_rating, 0 after k-core"):
        run(tmp_path, path, min_count=5, min_rating=2)
    with pytest.raises(DataError, match="no rating column"):
        run(tmp_path, file(tmp_path, GOOD, "b.csv"), min_rating=2)


def test_item_faults_are_counted(tmp_path: Path) -> None:
    items = b"item_id,title\na,A\na,A\nb,B\nb,other\nz,Z\n,nobody\n"  # c has no row
    actual = run(tmp_path, file(tmp_path, GOOD), file(tmp_path, items, "items.csv"))
    texts = Dataset.load(tmp_path / "out").items.to_pylist()
    assert texts[1] == {"item_id": "b", "title": "B"}  # the first of the two counts
    del actual["time-before-1973"]
    assert actual == {
        "item-row-without-id": 1,
        "duplicate-item-row": 1,
        "conflicting-item-row": 1,
        "text-without-item": 1,
        "item-without-text": 1,
    }


def test_items_that_fit_no_event_are_an_error(tmp_path: Path) -> None:
    items = file(tmp_path, b"item_id,title\n1.0,A\n", "items.csv")
    with pytest.raises(DataError, match=r"none of its 1 ids is in the log.*\['1'\]"):
        run(tmp_path, file(tmp_path, GOOD), items)
    with pytest.raises(DataError, match="no text column 'brand'; columns: title"):
        run(tmp_path, tmp_path / "log.csv", items, text_columns=["brand"])
    with pytest.raises(DataError, match="there is no items table"):
        run(tmp_path, tmp_path / "log.csv", text_columns=["title"])


def test_odd_logs_are_warned_of(tmp_path: Path) -> None:
    actual = run(tmp_path, file(tmp_path, b"user_id,item_id\nu, a\nu,a\n"))
    assert actual["no-timestamps"] == 1
    assert actual["blanks-around-item-id"] == 1
    assert actual["short-user"] == 1
    actual = run(tmp_path / "b", file(tmp_path, GOOD + b"u,c,3\n"))
    assert actual["exact-repeat"] == 1
    assert actual["time-before-1973"] == 4


def test_equal_times_are_counted_with_the_targets_among_them(tmp_path: Path) -> None:
    rows = "u,a,1\nu,b,2\nu,c,5\nu,d,5\nv,a,1\nv,b,2\nv,c,3\nv,c,3\nw,a,1\nw,b,1\nw,c,2\nw,d,3\n"
    path = file(tmp_path, HEAD + rows.encode())
    actual = run(tmp_path, path)
    assert actual["equal-times"] == 4  # the same item twice at one time has one order
    (record,) = [
        w for w in Dataset.load(tmp_path / "out").manifest.warnings if w["kind"] == "equal-times"
    ]
    assert "1 of 3 validation targets and 1 of 3 test targets" in record["message"]
    distinct = file(tmp_path, GOOD, "b.csv")
    assert "equal-times" not in run(tmp_path / "b", distinct)


def test_items_and_log_agree_on_decimals(tmp_path: Path) -> None:
    log = file(tmp_path, HEAD + b"7.0,100.0,1\n7,101.0,2\n8.0,100,3\n")
    items = file(tmp_path, b"item_id,title\n100,A\n101,B\n", "items.csv")
    actual = run(tmp_path, log, items)
    assert (actual["decimals-in-user-id"], actual["decimals-in-item-id"]) == (2, 2)
    dataset = Dataset.load(tmp_path / "out")
    assert dataset.user_ids == ["7", "8"]
    assert dataset.items.to_pylist() == [
        {"item_id": "100", "title": "A"},
        {"item_id": "101", "title": "B"},
    ]
    # Text ids stay as they are, in the log and in its items.
    log = file(tmp_path, HEAD + b"u,1.0,1\nu,2.0,2\nu,v3,3\n", "text.csv")
    items = file(tmp_path, b"item_id,title\n1.0,A\n2.0,B\n", "items.csv")
    run(tmp_path / "text", log, items)
    texts = Dataset.load(tmp_path / "text" / "out").items.to_pylist()
    assert texts[1] == {"item_id": "2.0", "title": "B"}


def test_files_of_python_literals(tmp_path: Path) -> None:
    line = "{u'user': u'ann', u'item': 7.0, u'date': u'2017-12-10', u'text': u'It\\'s \"fun\"'}\n"
    log = file(tmp_path, (line + line.replace("7.0", "8")).encode(), "log.json")
    run(tmp_path, log)
    assert Dataset.load(tmp_path / "out").item_ids == ["7", "8"]
    for bad, message in (
        ("{u'user': __import__('os').getcwd()}", "line 2: not a Python literal object"),
        ("{u'user': [1], u'item': 2}", r"'user' \(user_id\) holds a JSON list"),
        ("{'a': " + "(" * 500 + ")" * 500 + "}", "line 2: not a Python literal object"),
        ("{'a': '" + "x" * (5 << 20) + "'}", "line 2: a Python literal of .* are allowed"),
    ):
        log = file(tmp_path, (line + bad + "\n").encode(), "bad.json")
        with pytest.raises(DataError, match=message):
            run(tmp_path / "bad", log)
