"""Chooses the dialect of a delimited file where the options leave it open."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seqloom.core.errors import DataError
from seqloom.data.sources.files import first_lines
from seqloom.data.sources.quoting import (
    Dialect,
    ParsedRows,
    count_lines,
    parse_rows,
    quoted_lines,
    scan_quotes,
)

Quote = Literal["auto", "none", '"']
_ADVICE = (
    "correct the line; or set quote='none' if \" is an ordinary character, or escape='\\\\' if each \" "
    "inside a field is escaped by a backslash"
)


@dataclass
class Reading:
    """The dialect with which a delimited file is read, and the reason for it."""

    dialect: Dialect
    rows: int | None = None
    """Rows of the file, the header included; None where no quote can join lines."""
    spans: bool = False
    """Whether some field spans several lines."""
    why: str | None = None
    """Why the dialect is not RFC 4180, for messages."""
    findings: list[dict[str, Any]] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """Returns the manifest's record of the dialect."""
        record: dict[str, Any] = {
            "separator": self.dialect.separator,
            "quote": '"' if self.dialect.quote else "none",
            "escape": self.dialect.escape,
        }
        return record | ({"detected": self.why} if self.why else {})


def choose_reading(
    path: Path,
    separator: str,
    quote: Quote,
    escape: str | None,
    encoding: str,
    *,
    header: bool,
    is_log: bool,
) -> Reading:
    """Chooses the dialect of a file.

    RFC 4180 if every quote opens, closes or doubles; otherwise the one dialect that fits: quotes escaped
    by a backslash, or quotes as ordinary characters.

    Raises:
        DataError: no dialect fits, or a quoted field holds lines that look like rows; the message names
            the line.
    """
    if quote == "none":
        return Reading(Dialect(separator, quote=False))
    if escape is None:
        scanned = scan_quotes(path, separator)
        if scanned.clean:
            return Reading(Dialect(separator), scanned.rows)
    return _Choice(path, separator, encoding, header, is_log).choose(quote, escape)


class _Choice:
    """Chooses the dialect of a file with doubtful quotes."""

    def __init__(
        self, path: Path, separator: str, encoding: str, header: bool, is_log: bool
    ) -> None:
        self.path, self.separator, self.encoding = path, separator, encoding
        self.header, self.is_log = header, is_log
        self.line_counts = count_lines(path, separator)
        self.whole, self.inner, self.broken = quoted_lines(path, separator)

    def choose(self, quote: Quote, escape: str | None) -> Reading:
        """Chooses within the options `quote` and `escape`."""
        usual = Dialect(self.separator, escape=escape)
        quoted = parse_rows(self.path, usual, self.encoding)
        free = quote == "auto" and escape is None and self._may_be_ordinary()
        if quoted.fits and not quoted.suspects:
            if free and self.broken == 0 and (self.whole == 0 or self.separator == "\t"):
                why = "quotes are inside fields that are not quoted" if self.whole else None
                return self._ordinary(why)
            return self._quoted(usual, quoted)
        if escape is None and self.line_counts.escapes:
            escaped = Dialect(self.separator, escape="\\")
            parsed = parse_rows(self.path, escaped, self.encoding)
            if parsed.fits and not parsed.suspects:
                return self._quoted(escaped, parsed, 'each " inside a field follows a backslash')
        if free:
            reading = self._ordinary(quoted.problem or quoted.misfit or _swallowed(quoted))
            if quoted.swallows or quoted.suspects:
                reading.findings.append(self._unclosed(quoted))
            return reading
        if quoted.problem:
            raise DataError(f"{self.path}, {quoted.problem}; {_ADVICE}")
        many = self.is_log or 2 * len(quoted.suspects) > quoted.spans
        if quoted.suspects and quote == "auto" and many:
            raise DataError(
                f"{self.path}, {_swallowed(quoted)}; close the quote, or set quote='none' if \" is an "
                "ordinary character, or quote='\"' if the field does hold these lines"
            )
        return self._quoted(usual, quoted)

    def _may_be_ordinary(self) -> bool:
        """Returns whether all lines have one number of separators and few lines quote whole fields."""
        if self.line_counts.misfit is not None:
            return False
        if self.header and '"' in first_lines(self.path, 1)[0]:
            return False
        if self.separator == "\t":
            few = 2 * self.whole < self.line_counts.lines
            return few or self.broken + self.inner >= self.whole
        return self.broken >= self.whole

    def _ordinary(self, why: str | None) -> Reading:
        return Reading(Dialect(self.separator, quote=False), self.line_counts.lines, why=why)

    def _quoted(self, dialect: Dialect, parsed: ParsedRows, why: str | None = None) -> Reading:
        reading = Reading(dialect, parsed.rows, parsed.spans > 0, why)
        for kind, lines, message in (
            ("quoted-rows", parsed.suspects, "quoted fields hold lines that look like rows"),
            (
                "long-quoted-field",
                parsed.large,
                "quoted fields are over 50 lines or 65,536 characters",
            ),
        ):
            if lines:
                reading.findings.append(_finding(kind, len(lines), message, lines))
        return reading

    def _unclosed(self, quoted: ParsedRows) -> dict[str, Any]:
        lines = quoted.suspects or [int(str(quoted.problem).split(":")[0].removeprefix("line "))]
        return _finding(
            "unclosed-quote",
            max(self.broken, 1),
            f"lines of {self.path} have a quote that is not closed, so all quotes of the file are read as "
            "ordinary characters, one row per line; correct the lines, or set quote='none'",
            lines,
        )


def _swallowed(quoted: ParsedRows) -> str:
    line = quoted.suspects[0]
    return f"line {line}: a quoted field spans lines that look like rows"


def _finding(kind: str, count: int, message: str, lines: list[int]) -> dict[str, Any]:
    places = [f"line {line}" for line in lines[:5]]
    return {"kind": kind, "count": count, "message": message, "examples": places}
