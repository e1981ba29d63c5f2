"""Opening text files: compression, encodings, first lines."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn, cast

from seqloom.core.errors import DataError

BOM = b"\xef\xbb\xbf"


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
    """Open for reading, unpacking `.gz`.

    Raises:
        DataError: it is missing, a folder, empty or may not be read.
    """
    require_file(path)
    try:
        return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def suffix(path: Path) -> str:
    """The last suffix in lower case, not counting `.gz`."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, bytes without the line end); a UTF-8 byte order mark is taken off.

    Raises:
        DataError: the file is UTF-16 or its compression is damaged.
    """
    with open_bytes(path) as handle:
        try:
            for number, line in enumerate(handle, start=1):
                if number == 1:
                    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                        raise DataError(f"{path} is UTF-16; save it as UTF-8")
                    line = line.removeprefix(BOM)
                yield number, line.rstrip(b"\r\n")
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
    for number, line in raw_lines(path):
        yield number, decode(line, encoding, path, number)


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


def first_objects(path: Path, count: int) -> list[dict[str, Any]]:
    """Up to `count` first JSON objects; empty where the file holds anything else."""
    objects = []
    for line in first_lines(path, count, "utf-8"):
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            return []
        if not isinstance(value, dict):
            return []
        objects.append(value)
    return objects


def explain_json(path: Path, fallback: Exception) -> NoReturn:
    """Find the first line of a JSON-lines file that is no JSON object, and say so.

    Raises:
        DataError: always; names the line.
    """
    for number, line in text_lines(path, "utf-8"):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {number}: not JSON ({error.msg} at column {error.colno}); "
                "each line must be one JSON object"
            ) from None
        if not isinstance(value, dict):
            raise DataError(
                f"{path}, line {number}: a JSON {type(value).__name__}, an object is needed"
            )
    raise DataError(f"{path} cannot be read as JSON lines: {fallback}") from None
