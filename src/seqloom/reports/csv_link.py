"""The numbers behind a chart, as CSV inside the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True)
class CsvLink:
    """A table that the reader can save."""

    name: str
    """File name without extension."""
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @property
    def text(self) -> str:
        """The table as CSV."""
        written = io.StringIO()
        writer = csv.writer(written, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return written.getvalue()

    @property
    def uri(self) -> str:
        """The table as an address, for a link that downloads it."""
        return "data:text/csv;charset=utf-8," + quote(self.text)
