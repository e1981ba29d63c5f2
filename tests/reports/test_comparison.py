"""The report escapes what it shows, loads nothing, and stands on plain data."""

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.data.store import Dataset
from seqloom.evaluation.compare import compare_runs
from seqloom.evaluation.groups import default_thresholds
from seqloom.evaluation.metrics import list_metrics
from seqloom.reports.comparison import write_report
from seqloom.reports.data import (
    AuditResult,
    AuditRow,
    ReportData,
    long_tail,
    system_result,
)
from seqloom.reports.sample_users import sample_users

SCRIPT = "<script>alert('x')</script> & Söhne"
VOID = {"meta", "br", "use", "path"}


@pytest.fixture(scope="module")
def data(dataset: Dataset, make_run) -> ReportData:
    held_out = dataset.held_out("test")
    random = torch.Generator().manual_seed(0)
    runs = [
        make_run(name, torch.randint(1, 30, (60,), generator=random))
        for name in ("SASRec", "LLM <ESR> $1$")
    ]
    runs[0].record.metrics.update(list_metrics(torch.full((60, 20), 40), dataset.popularity, [10]))
    log = [
        {"phase": "main", "epoch": 1, "train": {"loss": 2.0}, "valid": {"ndcg@10": 0.1}},
        {"phase": "main", "epoch": 2, "train": {"loss": 1.5}},
    ]
    lists = {run.name: torch.full((60, 20), 40) for run in runs}
    ranks = {run.name: run.table.ranks for run in runs}
    thresholds = default_thresholds(dataset)
    return ReportData(
        title=f"Title {SCRIPT}",
        created="today",
        dataset="<data>",
        statistics={"Users": 60, "Share": 0.25, "Note": "<i>"},
        protocol=runs[0].table.protocol,
        systems=[system_result(run, log=log) for run in runs],
        comparison=compare_runs(runs, resamples=2000, flips=2000),
        long_tail=long_tail(dataset, thresholds),
        samples=sample_users(dataset, held_out, lists, ranks, count=3),
        versions={"torch": "2"},
        notes=["mind <this>"],
    )


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


def test_report_escapes_everything_and_loads_nothing(data: ReportData, tmp_path: Path) -> None:
    page = write_report(tmp_path / "my report.html", data).read_text(encoding="utf-8")
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
    assert data.protocol.statement().split(".")[0] in page
    assert data.comparison is not None
    assert "LLM &lt;ESR&gt; $1$ against SASRec" in page


def test_every_figure_is_kept_as_svg_with_its_numbers(data: ReportData, tmp_path: Path) -> None:
    write_report(tmp_path / "a.html", data)
    folder = tmp_path / "a_figures"
    names = {"differences", "long_tail", "groups_items", "groups_users", "training"}
    assert {p.stem for p in folder.glob("*.svg")} == {p.stem for p in folder.glob("*.csv")} == names
    for name in names:
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
    with (folder / "groups_items.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    bins = [(s.name, b) for s in data.systems for b in s.item_bins]
    assert [(r["run"], int(r["low"]), int(r["users"])) for r in rows] == [
        (name, b.low, b.users) for name, b in bins
    ]
    assert [float(r["value"]) for r in rows] == [(b.metrics or {})["ndcg@10"] for _, b in bins]
    with (folder / "long_tail.csv").open(newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["series"] == "histogram"]
    assert sum(int(r["count"]) for r in rows if r["what"] == "items") == 40
    assert sum(int(r["count"]) for r in rows if r["what"] == "users") == 60


def test_same_data_same_bytes_and_through_json(data: ReportData, tmp_path: Path) -> None:
    again = ReportData.build(json.loads(json.dumps(data.model_dump(mode="json"), allow_nan=False)))
    assert again == data
    first = write_report(tmp_path / "a.html", data).read_bytes()
    assert write_report(tmp_path / "a.html", again).read_bytes() == first


def test_a_report_of_one_system_without_extras(data: ReportData, tmp_path: Path) -> None:
    one = data.systems[0].model_copy(
        update={"groups": {}, "item_bins": [], "user_bins": [], "log": [], "metrics": {"mrr": 0.1}}
    )
    bare = ReportData(
        title="t",
        created="now",
        dataset="d",
        statistics={},
        protocol=data.protocol,
        systems=[one],
    )
    page = write_report(tmp_path / "b.html", bare).read_text(encoding="utf-8")
    assert "Significance" not in page
    assert "<svg" not in page
    with pytest.raises(ConfigError, match="different names"):
        write_report(tmp_path / "c.html", bare.model_copy(update={"systems": [one, one]}))


def test_samples_show_ids_titles_and_ranks(dataset: Dataset) -> None:
    held_out = dataset.held_out("test")
    lists = {"a": torch.tensor([[40, 1, 0]]).expand(60, 3)}
    found = sample_users(dataset, held_out, lists, {"a": torch.arange(60)}, count=4, length=2)
    assert len({user.user_id for user in found}) == 4
    for user in found:
        row = dataset.user_numbers[user.user_id]
        history = held_out.histories.select(torch.tensor([row])).flat()[1].tolist()
        assert [item.item_id for item in user.history] == [f"i{n}" for n in history[-2:]]
        assert user.history_length == len(history)
        assert user.target.item_id == f"i{int(held_out.targets[row])}"
        assert [item.title for item in user.recommendations["a"]] == [SCRIPT, "item 1"]
        assert user.ranks == {"a": row}
    with pytest.raises(ConfigError, match="3 rows"):
        sample_users(dataset, held_out, {"a": torch.zeros(3, 1, dtype=torch.int64)})
    other = sample_users(dataset, held_out, lists, title_column="nothing", count=1)
    assert other[0].target.title == other[0].target.item_id


def test_matplotlib_loads_only_to_draw() -> None:
    code = "import sys, seqloom.reports.comparison; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_grid_parts_all_users_and_leaves_out_what_is_empty(
    data: ReportData, tmp_path: Path
) -> None:
    for system in data.systems:
        assert sum(cell.users for cell in system.grid) == 60
        assert [(cell.user, cell.item) for cell in system.grid][:3] == [
            ("tail", "cold"),
            ("tail", "tail"),
            ("tail", "head"),
        ]
        whole = sum(cell.users * cell.metrics["ndcg@10"] for cell in system.grid if cell.metrics)
        assert whole / 60 == pytest.approx(system.metrics["ndcg@10"])
    page = write_report(tmp_path / "report.html", data).read_text(encoding="utf-8")
    full = [cell for cell in data.systems[0].grid if cell.users]
    assert page.count("<br><span") == len(full) + 4  # and the four groups


def test_audits_stand_side_by_side(data: ReportData, tmp_path: Path) -> None:
    rows = [
        AuditRow(artefact="popularity", verdict="pass"),
        AuditRow(artefact="<ids>", verdict="fail", checks=14, reason="2 & more"),
    ]
    found = AuditResult(date="then", passed=False, proved=14, failed=1, unknown=0, rows=rows)
    first, second = data.systems
    page = _page(data, tmp_path, [first.model_copy(update={"audit": found}), second])
    text = re.sub(r"<[^>]+>", "|", page.partition("<h2>Audit</h2>")[2])
    assert "FAILED" in text
    assert "then" in text
    assert "fail (14 checks)" in text
    assert "&lt;ids&gt;" in text
    assert "2 &amp; more" in text
    assert "not audited" in text  # the other run
    late = found.model_copy(update={"passed": True, "changed": ["ranks.parquet"]})
    page = _page(data, tmp_path, [first.model_copy(update={"audit": late}), second])
    assert "out of date: ranks.parquet changed since" in page


def _page(data: ReportData, folder: Path, systems: list) -> str:
    changed = data.model_copy(update={"systems": systems})
    return write_report(folder / "audit.html", changed).read_text(encoding="utf-8")
