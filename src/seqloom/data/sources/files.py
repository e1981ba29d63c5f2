"""Opening text files: compression, encodings, first lines."""

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
"""Bytes of a line that is parsed as a Python literal: its syntax tree is hundreds of times as large."""
_PYTHON = re.compile(r"\s*\{\s*u?['}]|\s*\{\s*u\"")


def require_file(path: Path) -> Path:
    """`path`, if it is a file with something in it.

    Raises:
        DataError: it is missing, a folder or empty.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path")
    if path.is_dir():
        raise DataError(f"{path} is a folder, a file is needed here")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)")
    return path


def open_bytes(path: Path) -> IO[bytes]:
    """Open for reading as `core.text_files.open_text` does: unpacked, no mark, lines ending in LF.

    Raises:
        DataError: it is missing, a folder, empty, may not be read, or is UTF-16 without a mark.
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
    """The last suffix in lower case, not counting `.gz`."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, bytes without the line end) of what `open_bytes` reads.

    Raises:
        DataError: as `open_bytes`, or its compression is damaged.
    """
    with open_bytes(path) as handle:
        try:
            yield from enumerate(split_lines(handle), start=1)
        except (OSError, EOFError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None


def decode(line: bytes, encoding: str, path: Path, number: int) -> str:
    """Decode one line.

    Raises:
        DataError: the bytes are not of that encoding; names line and byte.
    """
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number}: byte 0x{line[error.start]:02x} at position {error.start + 1} "
            f"is not {encoding}; if the file is latin-1, set encoding='latin-1'"
        ) from None


def text_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of every line.

    Raises:
        DataError: as `raw_lines` and `decode`.
    """
    encoding = text_encoding(path, encoding)
    for number, line in raw_lines(path):
        yield number, decode(line, encoding, path, number)


def text_encoding(path: Path, asked: str) -> str:
    """The encoding of what `open_bytes` reads: the one asked for, UTF-8 where the file has a mark.

    Raises:
        DataError: as `open_bytes`.
    """
    require_file(path)
    try:
        return marked_encoding(path, asked)
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def first_lines(path: Path, count: int, encoding: str = "latin-1") -> list[str]:
    """Up to `count` first lines that are not blank.

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
        raise DataError(f"{path} is empty: it holds no line with text")
    return lines


def is_python_literal(line: str) -> bool:
    """Whether a line looks like `{'asin': ...}`, which is Python and not JSON."""
    return _PYTHON.match(line) is not None


def parse_object(line: str) -> dict[str, Any]:
    """One line of a file of JSON objects or of Python literals, which are parsed, never evaluated.

    Raises:
        ValueError: it is neither; says why in words.
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
            raise ValueError("not JSON that can be read: its brackets are too deep") from None
    elif len(line) > _LONGEST_LITERAL:
        raise ValueError(
            f"a Python literal of {len(line):,} characters, {_LONGEST_LITERAL:,} are allowed; "
            "convert the file to JSON lines"
        )
    else:
        try:
            value = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
            raise ValueError(f"not a Python literal object ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"a {kind} {type(value).__name__}, an object is needed")
    return value


def objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of every line that is not blank.

    Raises:
        DataError: a line is no object; names it.
    """
    for number, line in text_lines(path, "utf-8"):
        if line.strip():
            try:
                yield number, parse_object(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: {error}") from None


def first_objects(path: Path, count: int) -> list[dict[str, Any]]:
    """Up to `count` first objects; empty where the file holds anything else."""
    try:
        return [parse_object(line) for line in first_lines(path, count, "utf-8")]
    except ValueError:
        return []


def explain_json(path: Path, fallback: Exception) -> NoReturn:
    """Find the first line that is no object, and name it.

    Raises:
        DataError: always; names the line.
    """
    for _ in objects(path):
        pass
    raise DataError(f"{path} cannot be read as JSON lines: {fallback}") from None
