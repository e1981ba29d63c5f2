"""Which reading of a delimited file fits, where the options leave it open."""

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
    "repair the line; or set quote='none' if \" is an ordinary character, or escape='\\\\' if a "
    'backslash stands before each " of a text'
)


@dataclass
class Reading:
    """How a delimited file is read, and what that was decided by."""

    dialect: Dialect
    rows: int | None = None
    """Rows of the file, the header included; None where no quote can join lines."""
    spans: bool = False
    """Whether some field goes over several lines."""
    why: str | None = None
    """Why it is not the reading by RFC 4180, in words."""
    findings: list[dict[str, Any]] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """What the manifest says of it."""
        told: dict[str, Any] = {
            "separator": self.dialect.separator,
            "quote": '"' if self.dialect.quote else "none",
            "escape": self.dialect.escape,
        }
        return told | ({"detected": self.why} if self.why else {})


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
    """Decide how quotes are read.

    RFC 4180 where every quote opens, closes or doubles. Else the one reading that fits: quotes after
    a backslash, or quotes as ordinary characters.

    Raises:
        DataError: no reading fits, or a quoted field holds what looks like rows; names the line.
    """
    if quote == "none":
        return Reading(Dialect(separator, quote=False))
    if escape is None:
        scanned = scan_quotes(path, separator)
        if scanned.clean:
            return Reading(Dialect(separator), scanned.rows)
    return _Choice(path, separator, encoding, header, is_log).choose(quote, escape)


class _Choice:
    """The choice for a file whose quotes are doubtful."""

    def __init__(
        self, path: Path, separator: str, encoding: str, header: bool, is_log: bool
    ) -> None:
        self.path, self.separator, self.encoding = path, separator, encoding
        self.header, self.is_log = header, is_log
        self.line_counts = count_lines(path, separator)
        self.whole, self.inner, self.broken = quoted_lines(path, separator)

    def choose(self, quote: Quote, escape: str | None) -> Reading:
        """The reading under options that leave some of it open."""
        usual = Dialect(self.separator, escape=escape)
        quoted = parse_rows(self.path, usual, self.encoding)
        free = quote == "auto" and escape is None and self._may_be_ordinary()
        if quoted.fits and not quoted.suspects:
            if free and self.broken == 0 and (self.whole == 0 or self.separator == "\t"):
                why = "quotes stand inside fields that are not quoted" if self.whole else None
                return self._ordinary(why)
            return self._quoted(usual, quoted)
        if escape is None and self.line_counts.escapes:
            escaped = Dialect(self.separator, escape="\\")
            found = parse_rows(self.path, escaped, self.encoding)
            if found.fits and not found.suspects:
                return self._quoted(escaped, found, 'backslashes stand before the " of texts')
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
                f"{self.path}, {_swallowed(quoted)}: close the quote; or set quote='none' if \" is an "
                "ordinary character, or quote='\"' if the field does hold these lines"
            )
        return self._quoted(usual, quoted)

    def _may_be_ordinary(self) -> bool:
        """Whether every line has one number of separators and quoting is no habit of the file."""
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
            f"lines of {self.path} hold a quote that nothing closes; all quotes of the file are read as "
            "ordinary characters, one row a line; repair the lines, or set quote='none'",
            lines,
        )


def _swallowed(quoted: ParsedRows) -> str:
    line = quoted.suspects[0]
    return f"line {line}: a quoted field goes on over lines that look like rows by themselves"


def _finding(kind: str, count: int, message: str, lines: list[int]) -> dict[str, Any]:
    places = [f"line {line}" for line in lines[:5]]
    return {"kind": kind, "count": count, "message": message, "examples": places}
