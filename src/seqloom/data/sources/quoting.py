"""Analyses how a delimited file uses quotes before it is read, so that no quote swallows rows.

`"` may quote fields as in RFC 4180, be escaped by a backslash, or be an ordinary character. A file is
first scanned as arrays of bytes, which is enough to decide for most files. Only a file with suspicious
quotes is parsed row by row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from seqloom.data.sources.escapes import EscapeNormalizer
from seqloom.data.sources.files import decode, open_bytes, raw_lines, text_encoding, text_lines

_BLOCK = 8 << 20
LONGEST_FIELD = 64 << 20
"""Limit of characters of a field; a longer one is treated as a quote that is never closed."""
_MANY_LINES, _MANY_CHARACTERS = 50, 1 << 16
_QUOTE, _BACKSLASH, _CR, _LF = b'"\\\r\n'
_STAMP = re.compile(r"[-+]?\d[\d.,:/TZeE+ -]*")


@dataclass(frozen=True)
class Dialect:
    """The separator, quote and escape characters of a delimited file."""

    separator: str
    quote: bool = True
    """Whether `"` quotes fields; else it is an ordinary character."""
    escape: str | None = None
    """The character that escapes a quote inside a field."""


@dataclass(frozen=True)
class QuoteScan:
    """The result of scanning bytes for quotes by RFC 4180."""

    rows: int
    """Rows that are not blank, the header included."""
    quotes: int
    """Quote characters; only those up to the first doubtful block if `clean` is false."""
    clean: bool
    """Whether every quote opens, closes or doubles, no field spans lines and all rows have one width."""


@dataclass(frozen=True)
class LineCounts:
    """Counts of the physical lines."""

    lines: int
    """Lines that are not blank."""
    misfit: int | None
    """The first line whose number of separators differs from that of the first line."""
    escapes: int
    """Quotes after a backslash."""


@dataclass
class ParsedRows:
    """The result of parsing a file row by row with one dialect."""

    rows: int = 0
    problem: str | None = None
    """Why the dialect does not fit, for messages."""
    swallows: bool = False
    """Whether the problem is a quote that takes further lines into its field."""
    misfit: str | None = None
    """The first row of another width, for messages."""
    spans: int = 0
    """Number of rows with a field that spans lines."""
    suspects: list[int] = field(default_factory=list)
    """Lines on which a field begins that spans lines which look like complete rows."""
    large: list[int] = field(default_factory=list)
    """Lines on which a field of very many lines or characters begins."""

    @property
    def fits(self) -> bool:
        """Whether the file can be read with the dialect."""
        return self.problem is None and self.misfit is None


def scan_quotes(path: Path, separator: str) -> QuoteScan:
    """Scans for quotes that violate RFC 4180."""
    rows = quotes = 0
    width: int | None = None
    for block in _blocks(path):
        if b'"' not in block:
            if b"\n\n" not in block and b"\r" not in block:
                rows += block.count(b"\n") - block.startswith(b"\n")
                continue
            rows += int(_filled(np.frombuffer(block, np.uint8))[1].sum())
            continue
        data = np.frombuffer(block, np.uint8)
        ends, filled = _filled(data)
        at = np.flatnonzero(data == _QUOTE)
        inside = np.bitwise_xor.accumulate((data == _QUOTE).view(np.uint8))
        edge = np.zeros(256, np.bool_)
        edge[[ord(separator), _CR, _LF, _QUOTE]] = True
        before = np.where(at > 0, data[at - 1], _LF)
        neighbours = np.where(inside[at] == 1, before, data[np.minimum(at + 1, len(data) - 1)])
        parted = np.flatnonzero((data == ord(separator)) & (inside == 0))
        widths = np.diff(np.searchsorted(parted, ends), prepend=0)[filled]
        if len(widths) and width is None:
            width = int(widths[0])
        quotes += len(at)
        rows += int(filled.sum())
        if not edge[neighbours].all() or inside[ends].any() or (widths != width).any():
            return QuoteScan(rows, quotes, clean=False)
    return QuoteScan(rows, quotes, clean=True)


def count_lines(path: Path, separator: str) -> LineCounts:
    """Counts lines, separators and escapes in physical lines, ignoring quotes."""
    lines = number = escapes = 0
    width, misfit = None, None
    for block in _blocks(path):
        data = np.frombuffer(block, np.uint8)
        ends, filled = _filled(data)
        parted = np.flatnonzero(data == ord(separator))
        widths = np.diff(np.searchsorted(parted, ends), prepend=0)
        if filled.any() and width is None:
            width = int(widths[filled][0])
        odd = np.flatnonzero(filled & (widths != width))
        if misfit is None and len(odd):
            misfit = number + int(odd[0]) + 1
        lines += int(filled.sum())
        number += len(ends)
        escapes += block.count(b'\\"')
    return LineCounts(lines, misfit, escapes)


def parse_rows(path: Path, dialect: Dialect, encoding: str) -> ParsedRows:
    """Parses the rows with a dialect in which `"` quotes fields; stops at the first error."""
    parsed = ParsedRows()
    width = None
    lines = _Lines(path, encoding, dialect)
    previous = csv.field_size_limit(LONGEST_FIELD)
    start = 1
    try:
        for row in csv.reader(
            lines, delimiter=dialect.separator, escapechar=dialect.escape, strict=True
        ):
            begin, start = start, lines.number + 1
            if not row:
                continue
            parsed.rows += 1
            width = width or len(row)
            if len(row) != width and parsed.misfit is None:
                parsed.misfit = f"line {begin}: {len(row)} fields, {width} are needed"
            if start > begin + 1 or len(max(row, key=len)) > _MANY_CHARACTERS:
                _inspect_row(row, begin, start - begin, dialect.separator, parsed)
    except csv.Error:
        parsed.problem, parsed.swallows = _explain_quote(
            path, dialect, encoding, start, lines.number
        )
    finally:
        csv.field_size_limit(previous)
    return parsed


def quoted_lines(path: Path, separator: str) -> tuple[int, int, int]:
    """Counts lines with quotes: around whole fields, only inside fields, and broken ones.

    Each line is parsed alone.
    """
    token = _token(Dialect(separator))
    whole = inner = broken = 0
    for _, line in raw_lines(path):
        if b'"' not in line:
            continue
        text = line.decode("latin-1")
        begins = list(_fields(token, text))
        if begins[-1] < 0:
            broken += 1
        elif any(text.startswith('"', at) for at in begins):
            whole += 1
        else:
            inner += 1
    return whole, inner, broken


def _inspect_row(row: list[str], line: int, lines: int, separator: str, parsed: ParsedRows) -> None:
    """Counts a row that spans lines or is long, and records whether its lines look like rows."""
    parsed.spans += lines > 1
    if lines > _MANY_LINES or len(max(row, key=len)) > _MANY_CHARACTERS:
        parsed.large.append(line)
    if lines > 1 and any(_looks_like_rows(row, at, separator) for at in range(len(row))):
        parsed.suspects.append(line)


def _looks_like_rows(row: list[str], at: int, separator: str) -> bool:
    """Returns whether the lines of field `at` would be complete rows if its quotes were characters."""
    first, *inner = [line.split(separator) for line in row[at].split("\n")]
    if not inner:
        return False
    own = row[:at] + first
    others = [line for line in inner[:-1] if line != [""]] + [inner[-1] + row[at + 1 :]]
    if any(len(line) != len(row) for line in (own, *others)):
        return False
    stamps = [number for number, text in enumerate(own) if _STAMP.fullmatch(text)]
    if stamps:
        return all(not line[n] or _STAMP.fullmatch(line[n]) for line in others for n in stamps)
    return " " in own[0] or not any(" " in line[0] for line in others)


def _explain_quote(
    path: Path, dialect: Dialect, encoding: str, first: int, last: int
) -> tuple[str, bool]:
    """Describes the quote in the lines `first` to `last` that opens a field without a proper end.

    Returns the description, and whether the field spans lines.
    """
    text = "\n".join(
        decode(line, text_encoding(path, encoding), path, number)
        for number, line in raw_lines(path)
        if first <= number <= last
    )
    token = _token(dialect)
    at = next((~begin for begin in _fields(token, text) if begin < 0), 0)
    line = first + text.count("\n", 0, at)
    closed = re.compile(_quoted(dialect)).match(text, at)
    if closed is None:
        return (
            f"line {line}: a quote opens a field and is never closed, so all lines up to {last} would be "
            "one field"
        ), True
    end = first + text.count("\n", 0, closed.end())
    where = "on the same line" if end == line else f"on line {end}"
    after = text[closed.end() :].split("\n", 1)[0][:20]
    problem = f"line {line}: a quote opens a field, and {where} {after!r} follows its closing quote"
    return problem, end > line


def _quoted(dialect: Dialect) -> str:
    if dialect.escape is None:
        return r'"[^"]*(?:""[^"]*)*+"'
    escape = re.escape(dialect.escape)
    return rf'"[^"{escape}]*(?:(?:{escape}.|"")[^"{escape}]*)*+"'


def _token(dialect: Dialect) -> re.Pattern[str]:
    """Returns a pattern for one field, up to the separator or the end of the line."""
    mark = re.escape(dialect.separator)
    return re.compile(
        rf'(?:{_quoted(dialect)}|[^"\n{mark}][^\n{mark}]*|)(?=[\n{mark}]|\Z)', flags=re.DOTALL
    )


def _fields(token: re.Pattern[str], text: str) -> Iterator[int]:
    """Yields the position of each field, and the complement of the position of the first invalid one."""
    at = 0
    while at <= len(text):
        match = token.match(text, at)
        if match is None:
            yield ~at
            return
        yield at
        at = match.end() + 1


class _Lines:
    """An iterator over the lines of a file for the csv module; `number` is the last line that was read."""

    def __init__(self, path: Path, encoding: str, dialect: Dialect) -> None:
        self.number = 0
        self._lines = text_lines(path, encoding)
        self._normalizer = (
            None if dialect.escape is None else EscapeNormalizer(dialect.escape, dialect.separator)
        )

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        return (self._normalizer.line(line) if self._normalizer else line) + "\n"


def _blocks(path: Path) -> Iterator[bytes]:
    """Yields the file in blocks of whole lines; the last line always ends in LF."""
    rest = b""
    with open_bytes(path) as handle:
        while data := handle.read(_BLOCK):
            cut = data.rfind(b"\n") + 1
            if not cut:
                rest += data
                continue
            yield rest + data[:cut]
            rest = data[cut:]
    if rest:
        yield rest + b"\n"


def _filled(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of the lines of a block, and which lines are not blank. A lone CR ends a line too."""
    ends = data == _LF
    returns = np.flatnonzero(data == _CR)
    if len(returns):
        ends[returns[data[returns + 1] != _LF]] = True
    at = np.flatnonzero(ends)
    lengths = np.diff(at, prepend=-1) - 1
    alone = (lengths == 1) & (data[at - 1] == _CR)
    return at, (lengths > 0) & ~alone
