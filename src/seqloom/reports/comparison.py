"""The report of a comparison: one HTML file that loads nothing from elsewhere and prints well.

Charts are SVG with places in percent, drawn by templates, each with its numbers as CSV inside the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqloom.core.errors import ConfigError
from seqloom.core.number_format import join_names
from seqloom.reports.audit import audit_heading, audit_tables
from seqloom.reports.columns import (
    accuracy,
    both_protocols,
    by_group,
    by_user_and_item,
    metrics_csv,
    recommended,
)
from seqloom.reports.csv_link import CsvLink
from seqloom.reports.data import ReportData
from seqloom.reports.marks import assign_marks
from seqloom.reports.pages import write_page
from seqloom.reports.sections.cost import cost_charts, cost_heading
from seqloom.reports.sections.gains import bin_chart, gains_heading, group_charts
from seqloom.reports.sections.item_maps import map_view
from seqloom.reports.sections.ranking import in_plain_words, rankings
from seqloom.reports.sections.settings import settings_tables
from seqloom.reports.sections.significance import (
    forests,
    significance_heading,
    significance_intro,
    tests_csv,
)
from seqloom.reports.sections.training import training_chart, training_heading
from seqloom.reports.sections.what_pays import chain, chain_heading


def write_report(path: str | Path, data: ReportData) -> Path:
    """Writes the report at `path`; returns `path`.

    Raises:
        ConfigError: two systems have the same name.
    """
    names = [system.name for system in data.systems]
    if len(set(names)) < len(names):
        raise ConfigError(f"a report needs systems with different names; got {names}")
    context = _context(data)
    return write_page(Path(path), "comparison.html.j2", toc=_contents(context), **context)


def _context(data: ReportData) -> dict[str, Any]:
    """Returns what the templates show."""
    systems, comparison = data.systems, data.comparison
    marks = assign_marks(systems, comparison)
    found = chain(data, marks)
    training = training_chart(data, marks)
    bins = [bin_chart(data, marks, "items"), bin_chart(data, marks, "users")]
    return {
        "report": data,
        "comparison": comparison,
        "marks": marks,
        "cautions": _cautions(data),
        "linked": _linked,
        "rankings": rankings(data, marks),
        "plain_words": in_plain_words(data),
        "chain": found,
        "chain_heading": chain_heading(data, found) if found else "",
        "costs": cost_charts(data, marks),
        "cost_heading": cost_heading(data, marks),
        "groups": group_charts(data, marks),
        "gains_heading": gains_heading(data, marks),
        "bins": [each for each in bins if each is not None],
        "by_group": by_group(systems, comparison.metric),
        "grid": by_user_and_item(systems, comparison.metric),
        "forests": forests(data, marks),
        "tests_csv": tests_csv(comparison),
        "significance_heading": significance_heading(comparison),
        "significance_intro": significance_intro(comparison),
        "accuracy": accuracy(systems),
        "accuracy_csv": metrics_csv(systems),
        "protocols": both_protocols(
            systems,
            masked=data.protocol.masked,
            metrics=list(dict.fromkeys(s.metric for s in comparison.scores)),
        ),
        "lists": recommended(systems),
        "samples": _samples(data),
        "training": training,
        "training_heading": training_heading(data) if training else "",
        "settings": settings_tables(data),
        "audit": audit_tables(systems),
        "audit_heading": audit_heading(systems),
        "map": map_view(data),
    }


def _contents(context: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the sections that the page has, as anchor and label."""
    report: ReportData = context["report"]
    sections = [
        ("verdict", "Verdict", True),
        ("what-pays", "What pays", context["chain"]),
        ("cost", "Cost", True),
        ("who-gains", "Who gains", context["groups"] or context["bins"]),
        ("significance", "Significance", True),
        ("metrics", "All metrics", True),
        ("users", "Sample users", report.samples),
        ("training", "Training", True),
        ("audit", "Audit", True),
        ("map", "Item map", context["map"]),
        ("data", "Data", True),
    ]
    return [(anchor, label) for anchor, label, shown in sections if shown]


def _cautions(data: ReportData) -> list[str]:
    """Adds to the verdict's cautions which runs have no valid audit."""
    unaudited = [s.name for s in data.systems if s.audit is None or s.audit.changed]
    failed = [
        s.name for s in data.systems if s.audit and not s.audit.changed and not s.audit.passed
    ]
    cautions = list(data.comparison.verdict.cautions)
    if failed:
        cautions.append(f"The audit of {join_names(failed)} failed: do not rely on these numbers.")
    if unaudited:
        number = f"{len(unaudited)} run{' is' if len(unaudited) == 1 else 's are'} not"
        if len(unaudited) == len(data.systems):
            number = "No run is"
        cautions.append(f"{number} audited: run seqloom audit before you rely on this.")
    return cautions


def _linked(charts: Sequence[Any]) -> list[tuple[str, CsvLink]]:
    """Returns the titles of charts with their numbers."""
    return [(chart.title, chart.csv) for chart in charts]


def _samples(data: ReportData) -> list[dict[str, Any]]:
    """Returns sample users with the items that two lists or more share."""
    samples = []
    for user in data.samples:
        counts = Counter(
            item for items in user.recommendations.values() for item in {i.item_id for i in items}
        )
        shared = {item for item, count in counts.items() if count > 1}
        samples.append({"title": f"User {user.user_id}", "user": user, "shared": shared})
    return samples
