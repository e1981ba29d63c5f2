"""Figures as SVG: inside a page, in a file, and from equal drawings."""

from __future__ import annotations

import csv
from pathlib import Path

from seqloom.reports.figure_style import INK, Canvas, Figure, escape_dollars

SVG = f"""<?xml version="1.0"?>
<svg xmlns:xlink="x" width="90pt" height="60pt" viewBox="0 0 90 60">
<metadata>made by</metadata><path id="p1" stroke="{INK}" clip-path="url(#c2)"/>
<use xlink:href="#p1"/></svg>"""
FIGURE = Figure("bars", "Bars", "What they are", SVG, ("system", "value"), [("a,b", 1.5), ("c", 2)])


def test_inside_a_page_it_has_the_pages_colour_and_ids_of_its_own() -> None:
    svg = FIGURE.inline()
    assert svg.startswith('<svg role="img" ')
    assert 'stroke="currentColor"' in svg
    assert 'id="bars-p1"' in svg
    assert "url(#bars-c2)" in svg
    assert 'href="#bars-p1"' in svg
    assert 'viewBox="0 0 90 60"' in svg
    assert "metadata" not in svg
    assert "pt" not in svg.partition(">")[0]  # the page decides the size


def test_files_are_an_svg_on_white_and_the_data(tmp_path: Path) -> None:
    FIGURE.save(tmp_path)
    assert '<svg style="background: #ffffff" ' in (tmp_path / "bars.svg").read_text()
    with (tmp_path / "bars.csv").open() as file:
        assert list(csv.reader(file)) == [["system", "value"], ["a,b", "1.5"], ["c", "2"]]


def draw(heights: list[float]) -> str:
    with Canvas(1, 1, 3, 2) as canvas:
        axis = canvas.axes[0][0]
        axis.bar(range(len(heights)), heights, label="of \\$5")
        canvas.legend(axis, 1)
        return canvas.svg("bars")


def test_equal_drawings_are_equal_text_and_others_differ() -> None:
    assert draw([1, 2]) == draw([1, 2])
    assert draw([1, 2]) != draw([1, 3])
    assert INK in draw([1])


def test_dollars_start_no_formula() -> None:
    assert escape_dollars("$5 or $6") == r"\$5 or \$6"
