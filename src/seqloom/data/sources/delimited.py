"""CSV, TSV and their kin, through Arrow's strict parser: a ragged line is an error."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from seqloom.core.errors import DataError
from seqloom.data.columns import find_item_id, find_names
from seqloom.data.sources.base import Column, Names, ReadOptions, Source, Table
from seqloom.data.sources.files import first_lines, open_bytes, text_lines

_CODED = pa.dictionary(pa.int32(), pa.string())
_SEPARATORS = ",\t;|"


class Delimited:
    """One delimited file: its separator, its header, and strict reads of some of its columns."""

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
    ) -> None:
        self.path = path
        self.encoding = encoding or options.encoding
        self.quoted = quoted
        first = first_lines(path, 1, self.encoding)[0]
        self.separator = separator or options.separator or _likeliest_separator(first)
        if len(self.separator) != 1:
            raise DataError(f"separator {self.separator!r} is not one character")
        fields = next(csv.reader([first], delimiter=self.separator, quoting=self._quoting))
        self.has_header = names is None and options.header
        self.header = names or (
            fields if self.has_header else [str(i) for i in range(1, len(fields) + 1)]
        )
        self.raw_header = list(self.header)
        if split_types:
            self.header = [name.rsplit(":", 1)[0] for name in self.header]

    @property
    def _quoting(self) -> Any:
        return csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE

    def read(self, types: dict[str, pa.DataType]) -> pa.Table:
        """The named columns with the given types.

        Raises:
            DataError: a ragged line, a wrong encoding, or no row at all.
            pa.ArrowInvalid: a value that does not convert to the type that was asked for.
        """
        in_file = dict(zip(self.header, self.raw_header, strict=True))
        raw = {in_file[name]: kind for name, kind in types.items()}
        try:
            with open_bytes(self.path) as handle:
                table = pc.read_csv(
                    handle,
                    read_options=pc.ReadOptions(
                        encoding="utf8" if self.encoding == "utf-8" else "latin1",
                        column_names=None if self.has_header else self.header,
                        block_size=4 << 20,
                    ),
                    parse_options=pc.ParseOptions(
                        delimiter=self.separator,
                        quote_char='"' if self.quoted else False,
                        newlines_in_values=self.quoted,
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
        return table.rename_columns(list(types))

    def columns(self, names: Names) -> dict[str, Column]:
        """The columns of a log by role, ids coded.

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
        return {
            role: table[own] if own in types else _series(table[own]) for role, own in roles.items()
        }

    def frame(self) -> pl.DataFrame:
        """All columns as strings; an empty field is an empty string.

        Raises:
            DataError: as `read`, or two columns of one name.
        """
        twice = sorted({name for name in self.header if self.header.count(name) > 1})
        if twice:
            raise DataError(f"{self.path}: the header has {', '.join(twice)} more than once")
        table = self.read({name: pa.large_string() for name in self.header})
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def locate(self, row: int) -> str:
        """Name the line on which row `row` (from 0) ends."""
        lines = (line + "\n" for _, line in text_lines(self.path, self.encoding))
        reader = csv.reader(lines, delimiter=self.separator, quoting=self._quoting)
        target = row + self.has_header
        for seen, _ in enumerate(filter(None, reader)):
            if seen == target:
                return f"line {reader.line_num}"
        return f"row {row + 1}"

    def _guess(self, name: str) -> pa.DataType:
        """The type that the first row's value suggests."""
        lines = first_lines(self.path, 1 + self.has_header, self.encoding)[self.has_header :]
        if not lines:
            raise DataError(f"{self.path} is empty: no row after the header")
        row = next(csv.reader(lines, delimiter=self.separator, quoting=self._quoting))
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
        reader = csv.reader(lines, delimiter=self.separator, quoting=self._quoting)
        width, start = len(self.header), 1
        for row in reader:
            if row and len(row) != width:
                raise DataError(
                    f"{self.path}, line {start}: {len(row)} fields, {width} are needed "
                    f"({', '.join(self.header)}); repair the line, put quotes around fields that "
                    f"hold {self.separator!r}, or set the separator"
                ) from None
            start = reader.line_num + 1
        raise DataError(f"{self.path} cannot be read: {fallback}") from None


def _likeliest_separator(line: str) -> str:
    best = max(_SEPARATORS, key=line.count)
    return best if best in line or " " not in line.strip() else " "


def _series(column: pa.ChunkedArray) -> pl.Series:
    series = pl.from_arrow(column)
    assert isinstance(series, pl.Series)
    return series


def read_csv(path: Path, options: ReadOptions) -> Source:
    """A CSV or TSV log (`.gz` too) with a header, or with columns named by number.

    Raises:
        DataError: a missing or ambiguous column, a ragged line, a wrong encoding, an empty file.
    """
    file = Delimited(path, options)
    names = find_names(file.header, options, str(path))
    return Source(
        "csv", str(path), file.columns(names), names, (path,), lambda row: file.locate(row)
    )


def read_csv_items(path: Path, options: ReadOptions, log_name: str | None) -> Table:
    """An items table in CSV or TSV.

    Raises:
        DataError: as `read_csv`.
    """
    file = Delimited(path, options)
    id_column = find_item_id(file.header, options, str(path), log_name)
    return Table(file.frame(), id_column, str(path), (path,))
