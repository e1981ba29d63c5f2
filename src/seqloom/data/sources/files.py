"""Opens text files: compression, encodings, first lines."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from seqloom.core.errors import DataError
from seqloom.core.text_files import (
    looks_like_unmarked_utf16,
    marked_encoding,
    open_text,
    split_lines,
)

_LONGEST_LITERAL = 4 << 20
"""Limit of characters of a Python literal: its syntax tree is hundreds of times as large."""
_PYTHON = re.compile(r"\s*\{\s*u?['}]|\s*\{\s*u\"")


def require_file(path: Path) -> Path:
    """Checks that `path` is a file that is not empty, and returns it.

    Raises:
        DataError: it is missing, a folder or empty.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path")
    if path.is_dir():
        raise DataError(f"{path} is a folder, but a file is needed; give the path of the file")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes); check the path")
    return path


def open_bytes(path: Path) -> IO[bytes]:
    """Opens a file as `core.text_files.open_text` does: unpacked, without a mark, lines ending in LF.

    Raises:
        DataError: it is missing, a folder, empty, not readable, or UTF-16 without a byte order mark.
    """
    require_file(path)
    try:
        with open_text(path) as handle:
            if looks_like_unmarked_utf16(handle.read(4096)):
                raise DataError(
                    f"{path} looks like UTF-16 without a byte order mark; save it as UTF-8"
                )
        return open_text(path)
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def suffix(path: Path) -> str:
    """Returns the last suffix in lower case, ignoring `.gz`."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields (line number from 1, bytes without the line end) of each line.

    Raises:
        DataError: as `open_bytes`, or its compression is damaged.
    """
    with open_bytes(path) as handle:
        try:
            yield from enumerate(split_lines(handle), start=1)
        except (OSError, EOFError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None


def decode(line: bytes, encoding: str, path: Path, number: int) -> str:
    """Decodes one line.

    Raises:
        DataError: the bytes are not of that encoding; the message names the line and the byte.
    """
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number}: byte 0x{line[error.start]:02x} at position {error.start + 1} "
            f"is not {encoding}; if the file is latin-1, set encoding='latin-1'"
        ) from None


def text_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Yields (line number from 1, text) of each line.

    Raises:
        DataError: as `raw_lines` and `decode`.
    """
    encoding = text_encoding(path, encoding)
    for number, line in raw_lines(path):
        yield number, decode(line, encoding, path, number)


def text_encoding(path: Path, encoding: str) -> str:
    """Returns the encoding of what `open_bytes` reads: UTF-8 for a file with a mark, else `encoding`.

    Raises:
        DataError: as `open_bytes`.
    """
    require_file(path)
    try:
        return marked_encoding(path, encoding)
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def first_lines(path: Path, count: int, encoding: str = "latin-1") -> list[str]:
    """Returns up to `count` first lines that are not blank.

    Raises:
        DataError: the file is missing, empty or holds blank lines only.
    """
    lines: list[str] = []
    for _, line in text_lines(path, encoding):
        if line.strip():
            lines.append(line)
        if len(lines) == count:
            break
    if not lines:
        raise DataError(f"{path} is empty: all its lines are blank")
    return lines


def is_python_literal(line: str) -> bool:
    """Returns whether a line looks like `{'asin': ...}`, which is Python and not JSON."""
    return _PYTHON.match(line) is not None


def parse_object(line: str) -> dict[str, Any]:
    """Parses a line that holds a JSON object or a Python literal, which is never evaluated.

    Raises:
        ValueError: it is neither; the message says why.
    """
    kind = "Python literal" if is_python_literal(line) else "JSON"
    if kind == "JSON":
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"not JSON ({error.msg} at column {error.colno}); each line must be one JSON object"
            ) from None
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None
    elif len(line) > _LONGEST_LITERAL:
        raise ValueError(
            f"a Python literal of {len(line):,} characters, but at most {_LONGEST_LITERAL:,} are allowed; "
            "convert the file to JSON lines"
        )
    else:
        try:
            value = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
            raise ValueError(f"not a Python literal object ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"a {kind} {type(value).__name__}, but an object is needed")
    return value


def objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number from 1, object) of each line that is not blank.

    Raises:
        DataError: a line is not an object; the message names it.
    """
    for number, line in text_lines(path, "utf-8"):
        if line.strip():
            try:
                yield number, parse_object(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: {error}") from None


def first_objects(path: Path, count: int) -> list[dict[str, Any]]:
    """Returns up to `count` first objects; an empty list if a line is not an object."""
    try:
        return [parse_object(line) for line in first_lines(path, count, "utf-8")]
    except ValueError:
        return []


def explain_json(path: Path, fallback: Exception) -> NoReturn:
    """Raises an error about the first line that is not an object.

    Raises:
        DataError: always; the message names the line.
    """
    for _ in objects(path):
        pass
    raise DataError(f"{path} cannot be read as JSON lines: {fallback}") from None
