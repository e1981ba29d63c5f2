"""Every format, from a small file that the test writes, to the same four events."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from seqloom.core.errors import DataError
from seqloom.data.assemble import code_log
from seqloom.data.catalog import text_table
from seqloom.data.checks import Findings
from seqloom.data.sources import ReadOptions, read_items, read_log

EVENTS = [("7", "a", 100), ("8", "b", 200), ("7", "b", 300), ("8", "é", 400)]


def events_of(source: object, **options: object) -> tuple[str, list[tuple[str, str, int]]]:
    """(format, events in file order with times in seconds)."""
    chosen = ReadOptions.build(options)
    raw = read_log(source, chosen)
    log = code_log(raw, chosen.timestamp_unit, "error", Findings()).log
    users = [log.user_ids[int(code)] for code in log.users]
    items = [log.item_ids[int(code)] for code in log.items]
    times = [0] * len(users) if log.times is None else [int(t) // 10**6 for t in log.times]
    return raw.format, list(zip(users, items, times, strict=True))


def texts_of(source: object, items: object = None, **options: object) -> dict[str, dict[str, str]]:
    """Item id to its text columns."""
    chosen = ReadOptions.build(options)
    raw = read_log(source, chosen)
    if items is None:
        assert raw.items is not None
        table = raw.items()
    else:
        table = read_items(items, chosen, raw)
    frame = text_table(table, chosen.text_columns, Findings())
    return {row.pop("item_id"): row for row in frame.to_dicts()}


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def table_text(separator: str, header: str) -> str:
    lines = [separator.join(map(str, event)) for event in EVENTS]
    return "\n".join([header.replace(",", separator), *lines]) + "\n"


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.tsv", "log.txt"])
def test_csv(tmp_path: Path, name: str) -> None:
    separator = "\t" if "tsv" in name else ","
    path = write(tmp_path / name, table_text(separator, "userID,movieId,ts"))
    assert events_of(path) == ("csv", EVENTS)


@pytest.mark.parametrize("separator", [";", "|"])
def test_csv_other_separators(tmp_path: Path, separator: str) -> None:
    path = write(tmp_path / "log.csv", table_text(separator, "uid,item_id,timestamp"))
    assert events_of(path)[1] == EVENTS
    assert events_of(path, separator=separator)[1] == EVENTS


def test_csv_without_header_by_number(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", table_text(",", "x").removeprefix("x\n"))
    chosen = {"user_column": "1", "item_column": "2", "timestamp_column": "3"}
    assert events_of(path, header=False, **chosen)[1] == EVENTS


def test_csv_byte_order_mark_quotes_and_crlf(tmp_path: Path) -> None:
    text = '"user_id","item_id","note"\r\n"007","a, b","two\r\nlines"\r\n"008","c",""\r\n'
    path = write(tmp_path / "log.csv", "\ufeff" + text)
    assert events_of(path)[1] == [("007", "a, b", 0), ("008", "c", 0)]


def test_csv_words_for_nothing_are_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user_id,item_id\nNA,null\nnan,N/A\n")
    assert events_of(path)[1] == [("NA", "null", 0), ("nan", "N/A", 0)]


def test_csv_latin1_on_request(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user_id,item_id\nu,caf\xe9\n", "latin-1")
    assert events_of(path, encoding="latin-1")[1] == [("u", "caf\xe9", 0)]


def frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "visitorid": [7, 8, 7, 8],
            "itemid": ["a", "b", "b", "é"],
            "timestamp": [100, 200, 300, 400],
        }
    )


def test_parquet_file_and_folder_of_parts(tmp_path: Path) -> None:
    frame().write_parquet(tmp_path / "log.parquet")
    assert events_of(tmp_path / "log.parquet") == ("parquet", EVENTS)
    parts = tmp_path / "parts"
    parts.mkdir()
    frame()[:1].write_parquet(parts / "part-0.parquet")
    frame()[1:].write_parquet(parts / "part-1.parquet")
    assert events_of(parts) == ("parquet", EVENTS)


def test_parquet_string_ids(tmp_path: Path) -> None:
    frame().with_columns(pl.col("visitorid").cast(pl.String)).write_parquet(tmp_path / "l.parquet")
    assert events_of(tmp_path / "l.parquet")[1] == EVENTS


@pytest.mark.parametrize("kind", ["polars", "lazy", "pandas", "arrow"])
def test_frames(kind: str) -> None:
    make = {
        "polars": frame,
        "lazy": lambda: frame().lazy(),
        "pandas": lambda: pd.DataFrame(frame().to_dict(as_series=False)),
        "arrow": lambda: pa.table(frame().to_dict(as_series=False)),
    }
    assert events_of(make[kind]()) == ("frame", EVENTS)


def test_integer_ids_never_become_floats() -> None:
    gappy = pd.DataFrame({"user_id": [7.0, 8.0], "item_id": [10.0, 2**40]})
    assert events_of(gappy)[1] == [("7", "10", 0), ("8", str(2**40), 0)]
    with pytest.raises(DataError, match=r"column 'user_id'.*holds the number 7\.5"):
        events_of(pd.DataFrame({"user_id": [7.5], "item_id": [1]}))


def json_lines(*objects: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in objects)


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz", "log.json"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    objects = [{"uid": int(u), "item": i, "time": t, "x": [1]} for u, i, t in EVENTS]
    assert events_of(write(tmp_path / name, json_lines(*objects))) == ("jsonl", EVENTS)


def test_json_lines_with_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", "\ufeff" + json_lines({"user": "u", "item": 3}))
    assert events_of(path)[1] == [("u", "3", 0)]


def test_recbole_folder(tmp_path: Path) -> None:
    header = "user_id:token,item_id:token,rating:float,timestamp:float"
    lines = [header.replace(",", "\t"), "7\ta\t3\t100", '8\t"b\t4.5\t200.0']
    write(tmp_path / "ml.inter", "\n".join(lines) + "\n")
    write(
        tmp_path / "ml.item",
        "item_id:token\tclass:token_seq\tmovie_title:token_seq\tyear:float\n"
        'a\tAction Comedy\tToy Story\t1995.0\n"b\t\tGolden "Eye"\t1995.5\n',
    )
    write(tmp_path / "ml.user", "user_id:token\tage:token\n7\t24\n")
    assert events_of(tmp_path) == ("recbole", [("7", "a", 100), ("8", '"b', 200)])
    assert events_of(tmp_path / "ml.inter")[0] == "recbole"
    texts = texts_of(tmp_path)
    assert texts["a"] == {"movie_title": "Toy Story", "class": "Action Comedy", "year": "1995"}
    assert texts['"b'] == {"movie_title": 'Golden "Eye"', "class": "", "year": "1995.5"}
    assert next(iter(texts["a"])) == "movie_title"  # the title comes first
    users = read_log(tmp_path, ReadOptions()).users
    assert users is not None
    assert users().frame.to_dicts() == [{"user_id": "7", "age": "24"}]


def test_movielens_100k(tmp_path: Path) -> None:
    write(tmp_path / "u.data", "7\t1\t3\t100\n8\t2\t4\t200\n")
    flags = ["0"] * 19
    flags[1] = flags[5] = "1"
    films = [
        "|".join(["1", "Caf\xe9 (1995)", "01-Jan-1995", "", "http://x", *flags]),
        "|".join(["2", "Heat", "", "", "", *["0"] * 19]),
    ]
    write(tmp_path / "u.item", "\n".join(films) + "\n", "latin-1")
    assert events_of(tmp_path) == ("movielens", [("7", "1", 100), ("8", "2", 200)])
    assert texts_of(tmp_path) == {
        "1": {"title": "Caf\xe9 (1995)", "genres": "Action, Comedy"},
        "2": {"title": "Heat", "genres": ""},
    }


def test_movielens_1m(tmp_path: Path) -> None:
    write(tmp_path / "ratings.dat", "7::1::3::100\n8::2::4::200\n")
    write(tmp_path / "movies.dat", "1::Caf\xe9: a::Action|War\n2::Heat::Crime\n", "latin-1")
    assert events_of(tmp_path) == ("movielens", [("7", "1", 100), ("8", "2", 200)])
    assert texts_of(tmp_path)["1"] == {"title": "Caf\xe9: a", "genres": "Action, War"}


def test_movielens_csv(tmp_path: Path) -> None:
    write(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp\n7,1,3.0,100\n")
    write(tmp_path / "movies.csv", 'movieId,title,genres\n1,"Heat, the é",Crime|War\n')
    assert events_of(tmp_path) == ("movielens", [("7", "1", 100)])
    assert texts_of(tmp_path) == {"1": {"title": "Heat, the é", "genres": "Crime, War"}}


def amazon_old(user: str, item: str, time: int) -> dict[str, object]:
    return {
        "reviewerID": user,
        "asin": item,
        "overall": 5.0,
        "unixReviewTime": time,
        "summary": "s",
    }


def test_amazon_2014_with_python_literal_metadata(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.json.gz", json_lines(amazon_old("U", "B1", 1400000000)))
    meta = write(
        tmp_path / "meta.json.gz",
        "{'asin': 'B1', 'title': \"Nail's\", 'brand': 'OPI', 'categories': [['Beauty', 'Nails']]}",
    )
    assert events_of(path) == ("amazon", [("U", "B1", 1400000000)])
    expected = {"title": "Nail's", "brand": "OPI", "categories": "Beauty, Nails"}
    assert texts_of(path, meta) == {"B1": expected}


def test_python_literals_are_never_evaluated(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.json", json_lines(amazon_old("U", "B1", 1)))
    meta = write(tmp_path / "meta.json", "{'asin': 'B1', 'title': __import__('os').getcwd()}\n")
    with pytest.raises(DataError, match="line 1: not a Python literal"):
        texts_of(path, meta)


def test_amazon_2018(tmp_path: Path) -> None:
    path = write(tmp_path / "Beauty.json", json_lines(amazon_old("U", "B1", 1400000000)))
    meta = write(
        tmp_path / "meta.json",
        json_lines({"asin": "B1", "title": "T", "category": ["A", "B"], "feature": [], "rank": {}}),
    )
    assert events_of(path)[0] == "amazon"
    assert texts_of(path, meta) == {"B1": {"title": "T", "categories": "A, B", "features": ""}}


def test_amazon_2023(tmp_path: Path) -> None:
    review = {"user_id": "U", "asin": "B9", "parent_asin": "B1", "rating": 5.0, "title": "wow"}
    path = write(tmp_path / "Beauty.jsonl", json_lines(review | {"timestamp": 1588687728923}))
    record = {"parent_asin": "B1", "title": "T", "store": "S", "description": ["x", "y"]}
    meta = write(tmp_path / "meta.jsonl", json_lines(record | {"details": {"Brand": "S"}}))
    assert events_of(path) == ("amazon", [("U", "B1", 1588687728)])
    assert texts_of(path, meta) == {"B1": {"title": "T", "brand": "S", "description": "x, y"}}
    assert texts_of(path, meta, text_columns=["details"]) == {"B1": {"details": "Brand: S"}}


def test_yelp_folder(tmp_path: Path) -> None:
    review = {"user_id": "U", "business_id": "B", "stars": 4.0, "date": "2016-03-09 00:00:00"}
    write(tmp_path / "yelp_academic_dataset_review.json", json_lines(review))
    business = {"business_id": "B", "name": "Pho", "categories": "Vietnamese, Soup", "city": "X"}
    write(tmp_path / "yelp_academic_dataset_business.json", json_lines(business))
    assert events_of(tmp_path) == ("yelp", [("U", "B", 1457481600)])
    assert texts_of(tmp_path) == {
        "B": {"title": "Pho", "categories": "Vietnamese, Soup", "city": "X"}
    }


def test_sequences_and_pairs(tmp_path: Path) -> None:
    path = write(tmp_path / "sequences.txt", "7 a b  c\n\n8\ta\n")
    expected = [("7", "a", 0), ("7", "b", 0), ("7", "c", 0), ("8", "a", 0)]
    assert events_of(path) == ("sequences", expected)
    pairs = write(tmp_path / "pairs.txt", "7 a\n8 a\n7 b\n")
    assert events_of(pairs) == ("sequences", [("7", "a", 0), ("8", "a", 0), ("7", "b", 0)])
    assert read_log(pairs, ReadOptions()).findings == []


def test_sequences_report_odd_users(tmp_path: Path) -> None:
    path = write(tmp_path / "sequences.txt", "7 a b\n8 c\n7 c\n9\n")
    actual = read_log(path, ReadOptions(format="sequences")).findings
    assert [(f["kind"], f["count"]) for f in actual] == [
        ("user-without-items", 1),
        ("user-on-several-lines", 1),
    ]
    assert actual[0]["examples"] == ["line 4: 9"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "frame"])
def test_items_tables(tmp_path: Path, kind: str) -> None:
    log = pl.DataFrame({"user_id": [1], "item_id": [7]})
    table = pl.DataFrame(
        {"id": [7, 9], "tags": [["a", "b"], None], "name": ["x", None], "price": [3.0, None]}
    )
    if kind == "csv":
        items: object = write(tmp_path / "items.csv", 'id,tags,name,price\n7,"a, b",x,3\n9,,,\n')
    elif kind == "parquet":
        items = tmp_path / "items.parquet"
        table.write_parquet(tmp_path / "items.parquet")
    elif kind == "jsonl":
        items = write(tmp_path / "items.jsonl", json_lines(*table.to_dicts()))
    else:
        items = table
    assert texts_of(log, items) == {
        "7": {"name": "x", "tags": "a, b", "price": "3"},
        "9": {"name": "", "tags": "", "price": ""},
    }


def test_tabs_on_every_line_are_columns_not_sequences(tmp_path: Path) -> None:
    path = write(tmp_path / "log.txt", "7\t1\t3\t100\n8\t2\t4\t200\n")
    with pytest.raises(DataError, match="header=false"):
        read_log(path, ReadOptions())


def test_explicit_columns_win_and_ambiguity_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "user,uid,asin,when\na,b,c,5\n")
    with pytest.raises(DataError, match="several columns may be the user: user, uid"):
        read_log(path, ReadOptions())
    chosen = {"user_column": "uid", "timestamp_column": "when"}
    assert events_of(path, **chosen)[1] == [("b", "c", 5)]
