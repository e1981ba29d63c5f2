"""Tables drop columns before they wrap cells, and paragraphs hang."""

from __future__ import annotations

import io

from rich.console import Console

from seqloom.cli.fitted_table import Column, FittedTable, Paragraph, fit

COLUMNS = [
    Column("run", ["a", "a longer name"]),
    Column("NDCG@10", ["0.1000", "0.0900"]),
    Column("interval", ["", "−0.020 to +0.001"], drop=1),
    Column("training", ["84 s", "12 min"], drop=2),
    Column("request", ["1.7 ms", "2.0 ms"], drop=3),
]


def drawn(width: int, *parts: object) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    for part in parts:
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_columns_are_dropped_in_their_order() -> None:
    assert [len(fit(COLUMNS, width)) for width in (100, 65, 54, 43, 10)] == [5, 5, 4, 3, 2]


def test_each_row_is_one_line_within_the_width() -> None:
    for width in (30, 44, 52, 100):
        lines = drawn(width, FittedTable(COLUMNS, bold=[1]))
        assert len(lines) == 4
        assert max(map(len, lines)) <= width


def test_a_column_without_values_is_left_out() -> None:
    table = FittedTable([*COLUMNS, Column("empty", ["", ""])])
    assert [column.title for column in table.columns][-1] == "request"


def test_paragraphs_hang_below_a_blank_line() -> None:
    lines = drawn(30, Paragraph("one two three four five six seven eight"))
    assert lines[0] == ""
    assert not lines[1].startswith(" ")
    assert all(line.startswith("  ") and not line.endswith(" ") for line in lines[2:])


def test_numbers_stay_with_their_units() -> None:
    lines = drawn(22, Paragraph("some words of 9.3\u202f% (p < .001) and more"))
    assert any("9.3\u202f%" in line for line in lines)
    assert any("p\u00a0<\u00a0.001" in line for line in lines)
