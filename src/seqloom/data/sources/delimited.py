"""Reads CSV, TSV and similar files with Arrow's strict parser: a ragged line is an error."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from seqloom.core.errors import DataError
from seqloom.data.columns import find_item_id, find_names
from seqloom.data.options import ReadOptions
from seqloom.data.sources.base import Column, Names, Source, Table
from seqloom.data.sources.escapes import EscapeNormalizer, normalize_stream
from seqloom.data.sources.files import first_lines, open_bytes, suffix, text_encoding, text_lines
from seqloom.data.sources.quoting import Dialect
from seqloom.data.sources.reading import Reading, choose_reading

_CODED = pa.dictionary(pa.int32(), pa.string())
_SEPARATORS = ",\t;|"
_SAMPLE = 20
_IN_QUOTES = re.compile('"[^"]*"')


class Delimited:
    """One delimited file: its separator, its header, and strict reading of some of its columns."""

    def __init__(
        self,
        path: Path,
        options: ReadOptions,
        *,
        names: list[str] | None = None,
        separator: str | None = None,
        quoted: bool = True,
        encoding: str | None = None,
        split_types: bool = False,
        is_log: bool = True,
    ) -> None:
        self.path = path
        self.encoding = text_encoding(path, encoding or options.encoding)
        first = first_lines(path, _SAMPLE, self.encoding)
        self.separator = separator or options.separator or likeliest_separator(path, first)
        if len(self.separator) != 1 or not self.separator.isascii() or self.separator in '"\r\n':
            raise DataError(
                f"separator {self.separator!r} is not allowed; use one ASCII character, such as ',' or '\\t'"
            )
        if options.escape is not None and (
            not options.escape.isascii() or options.escape in f'"\r\n{self.separator}'
        ):
            raise DataError(
                f"escape {options.escape!r} is not allowed; use one ASCII character other than the quote "
                "and the separator, such as a backslash"
            )
        self.has_header = names is None and options.header
        if quoted:
            self.reading = choose_reading(
                path,
                self.separator,
                options.quote,
                options.escape,
                self.encoding,
                header=self.has_header,
                is_log=is_log,
            )
        else:
            self.reading = Reading(Dialect(self.separator, quote=False))
        fields = next(self._rows(line + "\n" for line in first))
        self.header = names or (
            fields if self.has_header else [str(i) for i in range(1, len(fields) + 1)]
        )
        self.raw_header = list(self.header)
        if split_types:
            self.header = [name.rsplit(":", 1)[0] for name in self.header]

    def _rows(self, lines: Iterable[str]) -> Any:
        """Returns a `csv.reader` for the detected dialect."""
        dialect = self.reading.dialect
        if dialect.escape is not None:
            lines = map(EscapeNormalizer(dialect.escape, dialect.separator).line, lines)
        return csv.reader(
            lines,
            delimiter=dialect.separator,
            escapechar=dialect.escape,
            quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        )

    def read(self, types: dict[str, pa.DataType]) -> pa.Table:
        """Reads the named columns with the given types.

        Raises:
            DataError: a line is ragged, the encoding is wrong, or there are no rows.
            pa.ArrowInvalid: a value does not convert to the given type.
        """
        in_file = dict(zip(self.header, self.raw_header, strict=True))
        raw = {in_file[name]: kind for name, kind in types.items()}
        dialect = self.reading.dialect
        try:
            with self._open() as handle:
                table = pc.read_csv(
                    handle,
                    read_options=pc.ReadOptions(
                        encoding="utf8" if self.encoding == "utf-8" else "latin1",
                        column_names=None if self.has_header else self.header,
                        block_size=4 << 20,
                    ),
                    parse_options=pc.ParseOptions(
                        delimiter=self.separator,
                        quote_char='"' if dialect.quote else False,
                        escape_char=dialect.escape or False,
                        newlines_in_values=self.reading.spans,
                    ),
                    convert_options=pc.ConvertOptions(
                        include_columns=list(raw), column_types=raw, strings_can_be_null=False
                    ),
                )
        except pa.ArrowInvalid as error:
            text = str(error)
            if "Empty CSV" in text:
                raise DataError(f"{self.path} is empty: no row after the header") from None
            if "conversion error" in text and "UTF8" not in text:
                raise
            self._explain(error)
        except (OSError, EOFError) as error:
            raise DataError(f"{self.path} cannot be read: {error}") from None
        if table.num_rows == 0:
            raise DataError(f"{self.path} is empty: no row after the header")
        self._check_rows(table.num_rows)
        return table.rename_columns(list(types))

    def _open(self) -> IO[bytes]:
        """Opens the file with normalized escape characters."""
        escape = self.reading.dialect.escape
        handle = open_bytes(self.path)
        if escape is None:
            return handle
        return normalize_stream(handle, EscapeNormalizer(escape, self.separator))

    def _check_rows(self, read: int) -> None:
        """Compares the number of rows read with that of the file."""
        there = self.reading.rows
        if there is not None and read + self.has_header != there:
            raise DataError(
                f"{self.path} holds {there - self.has_header:,} rows, but {read:,} were read; check for "
                "quotes that are not closed, or set quote='none'"
            )

    def columns(self, names: Names) -> dict[str, Column]:
        """Reads the columns of a log by role, with coded ids.

        Raises:
            DataError: as `read`.
        """
        roles = names.by_role()
        types = {own: _CODED for role, own in roles.items() if role in ("user_id", "item_id")}
        numbers = [own for role, own in roles.items() if own not in types]
        try:
            table = self.read(types | {own: self._guess(own) for own in numbers})
        except pa.ArrowInvalid:
            table = self.read(types | {own: pa.string() for own in numbers})
        for own in types:
            self.check_ids(table[own], own)
        return {
            role: table[own] if own in types else _series(table[own]) for role, own in roles.items()
        }

    def check_ids(self, column: pl.Series | pa.ChunkedArray, name: str) -> None:
        """Refuses ids that begin with a quote, where quotes were only detected to be ordinary characters.

        Raises:
            DataError: an id begins with a quote; the message names its line.
        """
        if self.reading.why is None or self.reading.dialect.quote:
            return
        series = _series(column) if isinstance(column, pa.ChunkedArray) else column
        odd = series.cast(pl.String).str.starts_with('"').fill_null(False).arg_true()
        if len(odd):
            row = int(odd[0])
            raise DataError(
                f"{self.path}, {self.locate(row)}: the {name} {series[row]!r} begins with a quote that "
                "is not closed; correct the line, or set quote='none' to keep such quotes"
            )

    def describe(self) -> dict[str, Any]:
        """Returns the manifest's record of the dialect, the encoding and the rows."""
        rows = {} if self.reading.rows is None else {"rows": self.reading.rows - self.has_header}
        return self.reading.describe() | {"encoding": self.encoding} | rows

    def frame(self) -> pl.DataFrame:
        """Reads all columns as strings; an empty field is an empty string.

        Raises:
            DataError: as `read`, or two columns have one name.
        """
        twice = sorted({name for name in self.header if self.header.count(name) > 1})
        if twice:
            raise DataError(
                f"{self.path}: the header has {', '.join(twice)} more than once; rename the columns"
            )
        table = self.read({name: pa.large_string() for name in self.header})
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def locate(self, row: int) -> str:
        """Returns the line on which row `row` (from 0) ends."""
        lines = (line + "\n" for _, line in text_lines(self.path, self.encoding))
        reader = self._rows(lines)
        target = row + self.has_header
        for number, _ in enumerate(filter(None, reader)):
            if number == target:
                return f"line {reader.line_num}"
        return f"row {row + 1}"

    def _guess(self, name: str) -> pa.DataType:
        """Guesses the type of a column from the value in the first row."""
        lines = first_lines(self.path, _SAMPLE, self.encoding)
        rows = self._rows(line + "\n" for line in lines)
        row = next(itertools.islice(rows, int(self.has_header), None), None)
        if row is None:
            raise DataError(f"{self.path} is empty: no row after the header")
        value = row[self.header.index(name)] if len(row) == len(self.header) else ""
        for convert, kind in ((int, pa.int64()), (float, pa.float64())):
            try:
                convert(value)
                return kind
            except ValueError:
                continue
        return pa.string()

    def _explain(self, fallback: Exception) -> NoReturn:
        csv.field_size_limit(1 << 30)
        lines = (line + "\n" for _, line in text_lines(self.path, self.encoding))
        reader = self._rows(lines)
        width, start = len(self.header), 1
        for row in reader:
            if row and len(row) != width:
                quotes = (
                    f"put quotes around fields that hold {self.separator!r}"
                    if self.reading.dialect.quote or self.reading.why is None
                    else "or set quote='\"'"
                )
                raise DataError(
                    f"{self.path}, line {start}: {len(row)} fields, {width} are needed "
                    f"({', '.join(self.header)}); correct the line, {quotes}, or set the separator"
                ) from None
            start = reader.line_num + 1
        raise DataError(f"{self.path} cannot be read: {fallback}") from None


def likeliest_separator(path: Path, lines: Sequence[str]) -> str:
    """Guesses the separator of a file from its first lines; a tab for `.tsv` files that hold one.

    A separator that splits every line into the same number of fields takes precedence.
    """
    if suffix(path) in (".tsv", ".tab") and "\t" in lines[0]:
        return "\t"
    bare = [_IN_QUOTES.sub("", line) for line in lines]
    even = [mark for mark in _SEPARATORS if len({line.count(mark) for line in bare}) == 1]
    best = max([mark for mark in even if mark in bare[0]] or _SEPARATORS, key=bare[0].count)
    return best if best in bare[0] or " " not in bare[0].strip() else " "


def _series(column: pa.ChunkedArray) -> pl.Series:
    series = pl.from_arrow(column)
    assert isinstance(series, pl.Series)
    return series


def read_csv(path: Path, options: ReadOptions) -> Source:
    """Reads a CSV or TSV log (`.gz` too) with a header, or with columns named by number.

    Raises:
        DataError: a column is missing or ambiguous, a line is ragged, the encoding is wrong, or the file is
            empty.
    """
    file = Delimited(path, options)
    names = find_names(file.header, options, str(path))
    columns = file.columns(names)
    return Source(
        "csv",
        str(path),
        columns,
        names,
        (path,),
        lambda row: file.locate(row),
        findings=file.reading.findings,
        reading=file.describe(),
    )


def read_csv_items(path: Path, options: ReadOptions, log_name: str | None) -> Table:
    """Reads an items table in CSV or TSV.

    Raises:
        DataError: as `read_csv`.
    """
    file = Delimited(path, options, is_log=False)
    id_column = find_item_id(file.header, options, str(path), log_name)
    frame = file.frame()
    file.check_ids(frame[id_column], id_column)
    return Table(
        frame,
        id_column,
        str(path),
        (path,),
        findings=file.reading.findings,
        reading=file.describe(),
    )
