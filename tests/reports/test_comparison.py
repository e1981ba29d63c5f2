"""The report of a comparison: escaped, self-contained, and made from plain data alone."""

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from seqloom.core.errors import ConfigError
from seqloom.reports.comparison import write_report
from seqloom.reports.data import (
    ReportData,
)

VOID = {"meta", "br", "use", "path"}


class Balanced(HTMLParser):
    """Collects the tags and checks that each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.ids += [value for key, value in attrs if key == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_report_escapes_everything_and_loads_nothing(
    report_data: ReportData, tmp_path: Path
) -> None:
    page = write_report(tmp_path / "my report.html", report_data).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<title>Title &lt;script&gt;" in page
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; Söhne") > 6
    assert "mind &lt;this&gt;" in page
    assert "&lt;data&gt;" in page
    assert not re.search(r"(src|href)=.(https?:)?//|@import|url\((?!#)", page)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert {"table", "svg", "figure", "article"} <= parser.seen
    assert len(parser.ids) == len(set(parser.ids))
    assert report_data.protocol.statement().split(".")[0] in page
    assert report_data.comparison is not None
    assert "LLM &lt;ESR&gt; $1$ against SASRec" in page


def test_every_figure_is_kept_as_svg_with_its_numbers(
    report_data: ReportData, tmp_path: Path
) -> None:
    write_report(tmp_path / "a.html", report_data)
    folder = tmp_path / "a_figures"
    names = {"differences", "long_tail", "groups_items", "groups_users", "training"}
    assert {p.stem for p in folder.glob("*.svg")} == {p.stem for p in folder.glob("*.csv")} == names
    for name in names:
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
    with (folder / "groups_items.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    bins = [(s.name, b) for s in report_data.systems for b in s.item_bins]
    assert [(r["run"], int(r["low"]), int(r["users"])) for r in rows] == [
        (name, b.low, b.users) for name, b in bins
    ]
    assert [float(r["value"]) for r in rows] == [(b.metrics or {})["ndcg@10"] for _, b in bins]
    with (folder / "long_tail.csv").open(newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["series"] == "histogram"]
    assert sum(int(r["count"]) for r in rows if r["what"] == "items") == 40
    assert sum(int(r["count"]) for r in rows if r["what"] == "users") == 60


def test_same_data_same_bytes_and_through_json(report_data: ReportData, tmp_path: Path) -> None:
    again = ReportData.build(
        json.loads(json.dumps(report_data.model_dump(mode="json"), allow_nan=False))
    )
    assert again == report_data
    first = write_report(tmp_path / "a.html", report_data).read_bytes()
    assert write_report(tmp_path / "a.html", again).read_bytes() == first


def test_a_report_of_one_system_without_extras(report_data: ReportData, tmp_path: Path) -> None:
    one = report_data.systems[0].model_copy(
        update={"groups": {}, "item_bins": [], "user_bins": [], "log": [], "metrics": {"mrr": 0.1}}
    )
    bare = ReportData(
        title="t",
        created="now",
        dataset="d",
        statistics={},
        protocol=report_data.protocol,
        systems=[one],
    )
    page = write_report(tmp_path / "b.html", bare).read_text(encoding="utf-8")
    assert "Significance" not in page
    assert "<svg" not in page
    with pytest.raises(ConfigError, match="different names"):
        write_report(tmp_path / "c.html", bare.model_copy(update={"systems": [one, one]}))


def test_matplotlib_loads_only_to_draw() -> None:
    code = "import sys, seqloom.reports.comparison; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_page_shows_every_group_and_the_cells_that_have_users(
    report_data: ReportData, tmp_path: Path
) -> None:
    page = write_report(tmp_path / "report.html", report_data).read_text(encoding="utf-8")
    system = report_data.systems[0]
    cells = [cell for cell in system.grid if cell.users]
    assert page.count('<br><span class="soft">') == len(cells) + len(system.groups)
