"""Escape characters count before a quote, the separator and themselves alone."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from seqloom.core import text_files
from seqloom.core.errors import DataError
from seqloom.data.sources import ReadOptions, read_items, read_log
from seqloom.data.sources.escapes import EscapeNormalizer, normalize_stream

LOG = "user_id,item_id\nu,a\n"


def titles(folder: Path, text: str, **options: object) -> list[str]:
    log, items = folder / "log.csv", folder / "items.csv"
    log.write_text(LOG)
    items.write_text(text)
    chosen = ReadOptions(**options)
    frame = read_items(items, chosen, read_log(log, ReadOptions())).frame
    return frame["title"].to_list()


def test_an_escape_before_another_character_is_kept(tmp_path: Path) -> None:
    text = r"""item_id,title
a,"C:\dir \"x\" \\ \, end\\"
b,D:\new\, old
c,"two\
lines"
"""
    expected = ['C:\\dir "x" \\ , end\\', "D:\\new, old", "two\\\nlines"]
    assert titles(tmp_path, text, escape="\\") == expected


def test_a_detected_escape_keeps_other_backslashes(tmp_path: Path) -> None:
    text = 'item_id,title\na,"A \\"B\\" on C:\\dir"\nb,"x, y"\nc,plain\n'
    assert titles(tmp_path, text)[0] == 'A "B" on C:\\dir'


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
def test_blocks_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_CHUNK", chunk)
    normalizer = EscapeNormalizer("\\", ",")
    text = 'a\\d,"\\"x\\\\"\nlast\\'
    expected = 'a\\\\d,"\\"x\\\\"\nlast\\\\'
    assert normalize_stream(io.BytesIO(text.encode()), normalizer).read() == expected.encode()
    assert "\n".join(map(normalizer.line, text.split("\n"))) == expected


@pytest.mark.parametrize("escape", ["\u00e9", '"', ","])
def test_an_escape_that_cannot_be_one_is_refused(escape: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not allowed; use one ASCII character"):
        titles(tmp_path, "item_id,title\na,b\n", escape=escape)
