"""Quotes in delimited files: every row is read, or an error names the line of the quote."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from seqloom.core.errors import DataError
from seqloom.data.sources import ReadOptions, quoting, read_items, read_log
from seqloom.data.sources.base import Source, Table

HEAD = "user_id,item_id,timestamp,comment\n"
ROWS = [f"u{n % 2},i{n},{10**9 + n},fine\n" for n in range(8)]
LOG = Source(format="csv", name="log", columns={})


def log_of(tmp_path: Path, text: str, name: str = "log.csv", **options: object) -> Source:
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return read_log(tmp_path / name, ReadOptions.build(options))


def items_of(tmp_path: Path, text: str, name: str = "items.csv", **options: object) -> Table:
    (tmp_path / name).write_text(text)
    return read_items(tmp_path / name, ReadOptions.build(options), LOG)


def with_comments(comments: dict[int, str]) -> list[str]:
    """The rows of the log, some with another comment."""
    return [row.replace("fine", comments.get(n, "fine")) for n, row in enumerate(ROWS)]


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.csv.gz", "semicolon.csv"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize(
    "comments",
    [
        {2: '"open'},
        {7: '"'},
        {1: '"open', 4: 'close"'},
        {1: '"open', 5: '"open'},
        {1: '"open', 5: 'close" it'},
        {0: '"open', 3: '12"'},
        {2: '5" x'},
    ],
)
def test_a_stray_quote_loses_no_event(
    tmp_path: Path, name: str, header: bool, comments: dict[int, str]
) -> None:
    mark = {"log.tsv": "\t", "semicolon.csv": ";"}.get(name, ",")
    text = "".join([HEAD] * header + with_comments(comments)).replace(",", mark)
    chosen: dict[str, Any] = {"header": header}
    if not header:
        chosen |= {"user_column": "1", "item_column": "2", "timestamp_column": "3"}
    source = log_of(tmp_path, text, name, **chosen)
    assert len(source.columns["user_id"]) == 8
    assert source.columns["timestamp"].to_list() == [10**9 + n for n in range(8)]
    message = {actual["kind"] for actual in source.findings}
    assert message == (set() if comments == {2: '5" x'} else {"unclosed-quote"})
    assert "detected" in (source.reading or {}) or not message


def test_the_warning_names_the_line(tmp_path: Path) -> None:
    source = log_of(tmp_path, HEAD + "".join(with_comments({2: '"open'})))
    (actual,) = source.findings
    assert actual["examples"] == ["line 4"]
    assert source.reading is not None
    assert source.reading["quote"] == "none"
    assert source.reading["detected"].startswith(
        "line 4: a quote opens a field and is never closed"
    )


def test_a_stray_quote_beside_needed_ones_is_an_error_with_its_line(tmp_path: Path) -> None:
    needed = {0: '"good, really"', 3: '"open', 6: '"1, 2"'}
    with pytest.raises(DataError, match=r"line 5: a quote opens a field, and on line 8 '1, 2"):
        log_of(tmp_path, HEAD + "".join(with_comments(needed)))
    with pytest.raises(DataError, match="line 9: a quote opens a field and is never closed"):
        log_of(tmp_path, HEAD + "".join(with_comments({0: '"good, really"', 7: '"open'})))
    with pytest.raises(DataError, match="line 4: a quote opens a field and is never closed"):
        log_of(tmp_path, HEAD + "".join(with_comments({2: '"open'})), quote='"')


def test_swallowed_rows_beside_needed_quotes_are_an_error_unless_requested(tmp_path: Path) -> None:
    text = HEAD + "".join(with_comments({0: '"good, really"', 3: '"open', 6: '12"'}))
    with pytest.raises(DataError, match="line 5: a quoted field spans lines that look like"):
        log_of(tmp_path, text)
    source = log_of(tmp_path, text, quote='"')
    assert len(source.columns["user_id"]) == 5
    assert [(f["kind"], f["count"]) for f in source.findings] == [("quoted-rows", 1)]


def test_systematic_quotes_are_never_read_as_characters(tmp_path: Path) -> None:
    rows = ['"u","a","1"\n', '"u","b,"2"\n', '"u","c","3"\n']
    with pytest.raises(DataError, match="line 3: a quote opens a field"):
        log_of(tmp_path, '"user_id","item_id","timestamp"\n' + "".join(rows))
    with pytest.raises(DataError, match="line 2: a quote opens a field"):
        log_of(tmp_path, "".join(rows), header=False, user_column="1", item_column="2")


def test_a_quote_at_an_id_is_an_error(tmp_path: Path) -> None:
    text = 'user_id,item_id,timestamp\nu,a,1\n"u,b,2\nu,c,3\n'
    with pytest.raises(DataError, match="line 3: the user_id '\"u' begins with a quote"):
        log_of(tmp_path, text)
    assert len(log_of(tmp_path, text, quote="none").columns["user_id"]) == 3
    with pytest.raises(DataError, match="line 3: the item_id"):
        items_of(tmp_path, 'item_id,title\na,A\n"b,B\nc,C\n')


def test_items_with_a_stray_quote(tmp_path: Path) -> None:
    table = items_of(tmp_path, 'item_id,title\na,First\nb,"12 inch\nc,Third\nd,Fourth\n')
    assert table.frame["title"].to_list() == ["First", '"12 inch', "Third", "Fourth"]
    assert [actual["kind"] for actual in table.findings] == ["unclosed-quote"]
    paired = items_of(tmp_path, 'item_id,title\na,First\nb,"12 inch\nc,7"\nd,Fourth\n')
    assert paired.frame["title"].to_list() == ["First", '"12 inch', '7"', "Fourth"]


def test_texts_over_several_lines_are_read(tmp_path: Path) -> None:
    text = (
        'item_id,title,description\na,A,"first, line\nsecond line\n\nlast"\nb,"B ""x""",12" disk\n'
    )
    table = items_of(tmp_path, text)
    assert table.frame["description"].to_list() == ["first, line\nsecond line\n\nlast", '12" disk']
    assert table.frame["title"].to_list() == ["A", 'B "x"']
    assert table.findings == []
    bare = items_of(
        tmp_path, '1,"two\nlines",x\n2,"a, b",y\n', "bare.csv", header=False, items_id_column="1"
    )
    assert bare.frame["2"].to_list() == ["two\nlines", "a, b"]
    long = "\n".join(["word"] * 60)
    table = items_of(tmp_path, f'item_id,title,description\na,A,"{long}, x"\nb,B,C\n')
    assert [(f["kind"], f["examples"]) for f in table.findings] == [
        ("long-quoted-field", ["line 2"])
    ]


def test_quotes_as_characters_in_tsv(tmp_path: Path) -> None:
    text = 'N1\tnews\t"It was awful," says visitor\t[{"Label": "x"}]\nN2\tnews\t"Whole"\t[]\n'
    table = items_of(tmp_path, text, "news.tsv", header=False, items_id_column="1")
    assert table.frame["3"].to_list() == ['"It was awful," says visitor', '"Whole"']
    assert table.findings == []
    assert table.reading is not None
    assert table.reading["quote"] == "none"


def test_tsv_means_tab_without_a_header(tmp_path: Path) -> None:
    text = "N1\tnews, sports, life, more\tTitle\nN2\tone\tOther\n"
    table = items_of(tmp_path, text, "news.tsv", header=False, items_id_column="1")
    assert table.frame["3"].to_list() == ["Title", "Other"]
    # Elsewhere the separator that parts all lines alike wins.
    table = items_of(tmp_path, text, "news.csv", header=False, items_id_column="1")
    assert table.frame["3"].to_list() == ["Title", "Other"]


def test_backslashes_before_quotes(tmp_path: Path) -> None:
    text = (
        '"item_id";"title";"year"\n"1";"A \\"Quoted\\" Word";"2001"\n'
        '"2";"Peace \\"SUMMER\\"; A Story";"2002"\n"3";"Plain";"2003"\n'
    )
    table = items_of(tmp_path, text)
    expected = ['A "Quoted" Word', 'Peace "SUMMER"; A Story', "Plain"]
    assert table.frame["title"].to_list() == expected
    assert table.reading is not None
    assert table.reading["escape"] == "\\"
    assert items_of(tmp_path, text, escape="\\").frame["title"].to_list() == expected
    # A backslash at the end of a text escapes nothing where RFC 4180 fits.
    plain = items_of(tmp_path, 'item_id,title\n1,"C:\\dir\\"\n2,"a, b"\n')
    assert plain.frame["title"].to_list() == ["C:\\dir\\", "a, b"]


def test_a_ragged_line_under_ordinary_quotes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3: 3 fields, 4 are needed"):
        log_of(tmp_path, HEAD + ROWS[0] + "u,i,5\n" + ROWS[1], quote="none")


def test_quotes_over_block_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quoting, "_BLOCK", 7)
    for comments in ({}, {2: '"a, b"', 5: '"c ""d"""'}):
        source = log_of(tmp_path, HEAD + "\n" + "".join(with_comments(comments)))
        assert len(source.columns["user_id"]) == 8
        assert source.reading is not None
        assert source.reading["rows"] == 8
        assert source.findings == []


def test_cr_line_ends(tmp_path: Path) -> None:
    text = HEAD + "".join(with_comments({2: '"a, b"'}))
    source = log_of(tmp_path, text.replace("\n", "\r"))
    assert source.columns["timestamp"].to_list() == [10**9 + n for n in range(8)]
    source = log_of(tmp_path, text.replace("\n", "\r\n"))
    assert len(source.columns["user_id"]) == 8
    # CR inside a file with LF ends a row too; the row it leaves is named.
    with pytest.raises(DataError, match="line 2: 1 fields, 4 are needed"):
        log_of(tmp_path, HEAD + "u\ru,a,1,x\n")
