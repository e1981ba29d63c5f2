"""Results as text, HTML and frames."""

from __future__ import annotations

from typing import Any

import pytest

from seqloom.core.tabular import Tabular, text_of


class Result(Tabular):
    def __init__(self, rows: int) -> None:
        self.rows = rows

    def facts(self) -> dict[str, Any]:
        return {"rows <n>": self.rows}

    def as_rows(self) -> list[dict[str, Any]]:
        return [{"name": f"<{n}>", "value": n / 3} for n in range(self.rows)]


def test_text_html_and_frames_of_a_result() -> None:
    result = Result(40)
    assert repr(result) == str(result) == "<Result: rows <n> 40>"
    html = result._repr_html_()
    assert "rows &lt;n&gt;" in html
    assert "&lt;29&gt;" in html
    assert "&lt;30&gt;" not in html
    assert "10 more rows" in html
    assert result.to_polars().shape == result.to_pandas().shape == (40, 2)


def test_a_result_without_rows() -> None:
    assert Result(0).to_polars().is_empty()
    assert Tabular()._repr_html_() == "<div><b>Tabular</b></div>"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (True, "yes"), (12345, "12,345"), (0.12345, "0.1235")]
)
def test_values(value: object, text: str) -> None:
    assert text_of(value) == text
