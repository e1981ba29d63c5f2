"""Every text file that a user hands over is opened in one way."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqloom.core.config import read_config_file
from seqloom.core.errors import ConfigError, DataError, SeqloomError
from seqloom.core.text_files import open_text, read_text, split_lines
from seqloom.data.sources import ReadOptions, read_log
from seqloom.llm.plugins.alpaca import read_records
from seqloom.pipelines.recommend.user_file import read_users
from seqloom.systems.idgenrec.templates import read_templates
from seqloom.text.prompts import template_text

TEXT = "änna\nben\nclé\n"
WRITTEN = {
    "plain": TEXT.encode(),
    "utf-8 mark": TEXT.encode("utf-8-sig"),
    "utf-16 little": b"\xff\xfe" + TEXT.encode("utf-16-le"),
    "utf-16 big": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "utf-32": TEXT.encode("utf-32"),
    "cr": TEXT.replace("\n", "\r").encode(),
    "crlf": TEXT.replace("\n", "\r\n").encode(),
    "cr utf-16": TEXT.replace("\n", "\r").encode("utf-16"),
}


@pytest.mark.parametrize("how", WRITTEN)
@pytest.mark.parametrize("packed", [False, True])
def test_marks_and_line_ends(tmp_path: Path, how: str, packed: bool) -> None:
    path = tmp_path / ("text.txt.gz" if packed else "text.txt")
    path.write_bytes(gzip.compress(WRITTEN[how]) if packed else WRITTEN[how])
    assert read_text(path, "file") == TEXT
    with open_text(path) as handle:
        assert [line.decode() for line in split_lines(handle)] == ["änna", "ben", "clé"]
    with open_text(path) as handle:
        assert handle.read() == (TEXT.replace("\n", "\r\n") if how == "crlf" else TEXT).encode()
    assert read_users(path) == ["änna", "ben", "clé"]


def user_ids_of(path: Path) -> list[str]:
    column: Any = read_log(path, ReadOptions(format="csv")).columns["user_id"]
    return column.to_pylist()


READERS: dict[str, tuple[str, Callable[[Path], Any], type[SeqloomError]]] = {
    "users": ("é\nb\n", read_users, DataError),
    "configuration": ("name: é\n", read_config_file, ConfigError),
    "records": ('{"instruction": "é", "output": "b"}\n', lambda p: read_records(p).good, DataError),
    "template": ("Title: {title} é\n", lambda p: template_text(str(p), "item"), ConfigError),
    "prompts": ("{history} é\n", lambda p: read_templates(str(p)), ConfigError),
    "log": (
        "user_id,item_id\né,b\n",
        user_ids_of,
        DataError,
    ),
    "json": (
        '{"user_id": "a", "item_id": "b"}\n{"user_id": "é", "item_id": "b"}\n',
        lambda p: read_log(p, ReadOptions(format="jsonl")).columns["user_id"].to_list(),
        DataError,
    ),
    "sequences": (
        "é a b\n",
        lambda p: read_log(p, ReadOptions(format="sequences")).columns["user_id"].to_list(),
        DataError,
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_takes_marks_and_names_the_bad_line(tmp_path: Path, reader: str) -> None:
    text, read, error = READERS[reader]
    path = tmp_path / "file.txt"
    path.write_text(text, encoding="utf-8")
    expected = read(path)
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        path.write_text(text, encoding=encoding)
        assert read(path) == expected
    path.write_bytes(text.encode().replace(b"\n", b"\r"))
    assert read(path) == expected
    path.write_bytes(text.encode().replace("é".encode(), b"\xe9"))
    line = text[: text.index("é")].count("\n") + 1
    with pytest.raises(error, match=rf"line {line}: byte 0xe9"):
        read(path)
    path.write_bytes(text.encode("utf-16-le"))
    with pytest.raises(error, match="looks like UTF-16 without a byte order mark"):
        read(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"thing .*none does not exist"):
        read_text(tmp_path / "none", "thing", ConfigError)
    with pytest.raises(DataError, match="is a folder"):
        read_text(tmp_path, "thing")
    (tmp_path / "x.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="cannot be read"):
        read_text(tmp_path / "x.gz", "thing")


def test_a_byte_order_mark_wins_over_the_given_encoding(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\né,b\n", encoding="utf-16")
    source = read_log(path, ReadOptions(encoding="latin-1"))
    assert source.columns["user_id"].to_pylist() == ["é"]  # type: ignore[union-attr]
