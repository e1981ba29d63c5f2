"""Conditions on the columns of a catalogue, read from words and applied to its rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

_WORD = re.compile(r"[^\W_]+(?:['’&-][^\W_]+)*")
_NUMBER = re.compile(r"^\W*(\d[\d,]*(?:\.\d+)?)\W*$")
_NUMERIC_SHARE = 0.9
_LONGEST_CELL = 6
_LONGEST_VALUE = 5

Comparison = Literal["is", "is not", "at least", "at most", "above", "below"]


@dataclass(frozen=True)
class Filter:
    """A condition that an item meets or does not."""

    column: str
    comparison: Comparison
    value: str | float

    def __str__(self) -> str:
        value = f"{self.value:g}" if isinstance(self.value, float) else self.value
        return f"{self.column} {self.comparison} {value}"


def words_of(text: str) -> list[str]:
    """Splits a text into lower-case words."""
    return _WORD.findall(text.lower())


def number_of(text: str) -> float | None:
    """Reads a number with an optional currency sign or unit sign; None if the text is none."""
    match = _NUMBER.match(text)
    return float(match[1].replace(",", "")) if match else None


class FilterColumns:
    """The columns of a catalogue that a sentence can set conditions on.

    A column of numbers takes comparisons; a column of short values takes `COLUMN VALUE`. Columns of long
    texts, and `title`, take neither: a sentence is compared with them by meaning.
    """

    def __init__(self, columns: Mapping[str, Sequence[str | None]], title: str | None) -> None:
        self.numeric: list[str] = []
        self.short: list[str] = []
        self._cells: dict[str, tuple[list[str], Tensor]] = {}
        """The distinct cells of each column, and the place of each row's cell among them."""
        for name, cells in columns.items():
            codes: dict[str, int] = {}
            rows = [codes.setdefault(cell or "", len(codes)) for cell in cells]
            self._cells[name] = (list(codes), torch.tensor(rows, dtype=torch.int64))
            filled = [cell for cell in cells if cell]
            if name == title or not filled:
                continue
            if sum(number_of(cell) is not None for cell in filled) >= _NUMERIC_SHARE * len(filled):
                self.numeric.append(name)
            elif sum(len(words_of(cell)) for cell in filled) <= _LONGEST_CELL * len(filled):
                self.short.append(name)
        self._runs = {name: self._known_runs(name) for name in self.short}

    def named(self, words: Sequence[str]) -> tuple[str, int] | None:
        """Returns the column that the first words name, and how many words its name has.

        `release_year` is named by "release year" and by its last word, "year".
        """
        for name in sorted([*self.numeric, *self.short], key=len, reverse=True):
            parts = words_of(name.replace("_", " "))
            for spelling in (parts, parts[-1:]):
                if spelling and list(words[: len(spelling)]) == spelling:
                    return name, len(spelling)
        return None

    def value(self, column: str, words: Sequence[str]) -> int:
        """Returns how many of the first words are a value of a short column; 0 if none are."""
        for length in range(min(_LONGEST_VALUE, len(words)), 0, -1):
            if tuple(words[:length]) in self._runs[column]:
                return length
        return 0

    def mask(self, condition: Filter, later: Sequence[Mapping[str, str]] = ()) -> Tensor:
        """Returns whether each item, and each of `later` ones, meets a condition on a column.

        An empty cell meets no comparison of numbers and no "is".

        Shapes: M later items -> [N + M] bool.
        """
        distinct, codes = self._cells[condition.column]
        kept = torch.tensor([_meets(cell, condition) for cell in distinct])[codes]
        more = [_meets(item.get(condition.column, ""), condition) for item in later]
        return torch.cat([kept, torch.tensor(more, dtype=torch.bool)])

    def _known_runs(self, column: str) -> set[tuple[str, ...]]:
        """All runs of words inside the cells of a column."""
        runs = set()
        for cell in self._cells[column][0]:
            words = words_of(cell)
            for start in range(len(words)):
                for stop in range(start + 1, min(start + _LONGEST_VALUE, len(words)) + 1):
                    runs.add(tuple(words[start:stop]))
        return runs


def _meets(cell: str, condition: Filter) -> bool:
    if isinstance(condition.value, str):
        inside = f" {' '.join(words_of(condition.value))} " in f" {' '.join(words_of(cell))} "
        return inside if condition.comparison == "is" else not inside
    number = number_of(cell)
    if number is None:
        return False
    return {
        "is": number == condition.value,
        "is not": number != condition.value,
        "at least": number >= condition.value,
        "at most": number <= condition.value,
        "above": number > condition.value,
        "below": number < condition.value,
    }[condition.comparison]
