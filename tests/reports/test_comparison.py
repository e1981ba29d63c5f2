"""The report of a comparison: escaped, self-contained, and made from plain data alone."""

import json
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from seqloom.core.errors import ConfigError
from seqloom.reports.comparison import write_report
from seqloom.reports.data import AuditResult, ReportData

VOID = {"meta", "br", "use", "path", "input", "circle", "rect", "line"}


class Balanced(HTMLParser):
    """Collects tags, ids and links, and checks that each element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.links: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.ids += [value for key, value in attrs if key == "id" and value]
        if tag == "a":
            self.links.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.ids += [value for key, value in attrs if key == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture
def page(report_data: ReportData, tmp_path: Path) -> str:
    return write_report(tmp_path / "my report.html", report_data).read_text(encoding="utf-8")


def parsed(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    return parser


def test_report_escapes_everything_and_loads_nothing(page: str, report_data: ReportData) -> None:
    assert page.count("<script") == 2  # its own, and the titles of the map
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; Söhne") > 6
    assert "<script>alert" not in page
    assert "&lt;data&gt;" in page
    assert "&lt;none&gt;" in page
    assert not re.search(r"(src|href)=.(https?:)?//|@import|url\((?!#)", page)
    found = parsed(page)
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert {"table", "svg", "figure", "fieldset", "details", "aside"} <= set(found.seen)
    assert report_data.protocol.statement().split(".")[0] in page
    assert "<b>LLM &lt;ESR&gt; $1$</b> minus SASRec" in page


def test_links_lead_to_sections_and_charts_offer_their_numbers(
    page: str, report_data: ReportData
) -> None:
    found = parsed(page)
    inside = {link["href"] for link in found.links if (link["href"] or "").startswith("#")}
    assert {href[1:] for href in inside if href} <= set(found.ids)
    saved = {
        link["download"]: unquote((link["href"] or "").partition(",")[2])
        for link in found.links
        if "download" in link
    }
    assert {
        "ranking-ndcg@10.csv",
        "tests.csv",
        "metrics.csv",
        "training.csv",
        "item-map.csv",
    } <= set(saved)
    lines = saved["by-items-ndcg@10.csv"].splitlines()
    bins = [(s.name, b) for s in report_data.systems for b in s.item_bins]
    assert len(lines) == 1 + len(bins)
    assert lines[1].startswith(f"SASRec,{bins[0][1].low},{bins[0][1].high},{bins[0][1].users},")
    assert len(saved["item-map.csv"].splitlines()) == 1 + 12


def test_the_same_gap_is_the_same_in_ranking_sentences_and_tests(
    page: str, report_data: ReportData
) -> None:
    comparison = report_data.comparison
    found = comparison.difference("LLM <ESR> $1$", "ndcg@10")
    assert found is not None
    assert found.relative is not None
    amount = f"{abs(100 * found.relative):.1f}\u202f%"
    text = unescape(re.sub(r"<[^>]+>", "", page))
    assert text.count(amount) >= 4  # ranking, evidence, table of tests, sentence
    assert comparison.verdict.headline in text


def test_same_data_same_bytes_and_through_json(report_data: ReportData, tmp_path: Path) -> None:
    again = ReportData.build(
        json.loads(json.dumps(report_data.model_dump(mode="json"), allow_nan=False))
    )
    assert again == report_data
    first = write_report(tmp_path / "a.html", report_data).read_bytes()
    assert write_report(tmp_path / "a.html", again).read_bytes() == first
    assert not (tmp_path / "a_figures").exists()


def test_a_report_without_extras(report_data: ReportData, tmp_path: Path) -> None:
    nothing: dict[str, object] = {
        "groups": {},
        "item_bins": [],
        "user_bins": [],
        "grid": [],
        "log": [],
    }
    bare = ReportData(
        created="now",
        dataset="d",
        statistics={},
        protocol=report_data.protocol,
        systems=[system.model_copy(update=nothing) for system in report_data.systems],
        comparison=report_data.comparison,
    )
    text = write_report(tmp_path / "b.html", bare).read_text(encoding="utf-8")
    assert "Map of the items" not in text
    assert "Sample users" not in text
    assert parsed(text).open == []
    one = bare.systems[0]
    with pytest.raises(ConfigError, match="different names"):
        write_report(tmp_path / "c.html", bare.model_copy(update={"systems": [one, one]}))


def test_cautions_name_seeds_data_and_audits(report_data: ReportData, tmp_path: Path) -> None:
    failed = AuditResult(date="", passed=False, proved=1, failed=1, unknown=0, rows=[])
    first, second = report_data.systems
    systems = [first.model_copy(update={"audit": failed}), second]
    data = report_data.model_copy(update={"systems": systems})
    text = write_report(tmp_path / "d.html", data).read_text(encoding="utf-8")
    assert "The audit of SASRec failed" in text
    assert "1 runs are not audited" not in text
    assert "1 run is not audited" in text
    assert "One data set" in text


def test_no_matplotlib_is_loaded(report_data: ReportData, tmp_path: Path) -> None:
    code = "import sys, seqloom.reports.comparison; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_page_is_small(page: str) -> None:
    assert len(page.encode()) < 400_000
