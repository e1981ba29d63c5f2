"""One HTML file about a sweep, with its figures as SVG and its numbers as CSV beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.files import atomic_file
from seqloom.evaluation.groups import GROUPS, HISTORY_GROUPS, REPEAT_GROUPS
from seqloom.evaluation.metrics import metric_label
from seqloom.reports.figure_style import Figure
from seqloom.reports.figures_sweep import ablation, numeric_keys, sensitivity
from seqloom.reports.markup import Markup, join, number, section, table, tag, text
from seqloom.reports.sweep_table import Measurement, SummaryRow, chosen, label


class SweepReport(Config):
    """Everything that the report shows."""

    title: str
    dataset: str
    statistics: dict[str, int | float | str]
    metrics: list[str]
    """The first one is drawn."""
    table: list[SummaryRow]
    measurements: list[Measurement]
    failed: list[dict[str, str]] = Field(default_factory=list)
    """`run` and `error` of the runs that are not in the table."""


def write_sweep_report(path: Path, data: SweepReport) -> Path:
    """Write the report at `path`, `summary.csv` and `runs.csv` beside it, and `<stem>_figures/`."""
    drawn = draw_sweep(data)
    for figure in drawn:
        figure.save(path.with_name(f"{path.stem}_figures"))
    _write_csv(path.with_name("summary.csv"), _summary_rows(data.table))
    _write_csv(path.with_name("runs.csv"), _run_rows(data.measurements))
    template = Template(
        files("seqloom.reports").joinpath("report.html").read_text(encoding="utf-8")
    )
    page = template.substitute(title=text(data.title), body=_body(data, drawn, path))
    with atomic_file(path) as work:
        work.write_text(page, encoding="utf-8")
    return path


def draw_sweep(data: SweepReport) -> list[Figure]:
    """Sensitivity for each numeric grid key, and the variants where there are several."""
    if not data.table:
        return []
    metric, protocol = data.metrics[0], data.table[0].protocol
    drawn = [sensitivity(data.table, key, metric, protocol) for key in numeric_keys(data.table)]
    if len({row.variant for row in data.table}) > 1:
        drawn.append(ablation(data.table, metric, protocol))
    return drawn


def _body(data: SweepReport, drawn: Sequence[Figure], path: Path) -> Markup:
    runs = len({one.run for one in data.measurements})
    parts = [
        tag("h1", data.title),
        tag("p", f"Data set {data.dataset}, {runs} runs.", class_="soft"),
    ]
    if data.failed:
        told = [tag("li", f"{one['run']}: {one['error']}") for one in data.failed]
        parts.append(section("Runs that failed", tag("ul", *told, class_="notes")))
    for protocol in dict.fromkeys(row.protocol for row in data.table):
        tables = [_table(data.table, protocol, metric) for metric in data.metrics]
        parts.append(section(f"{protocol.capitalize()} ranking", *tables))
    if drawn:
        parts.append(section("Figures", *(_figure(figure, path) for figure in drawn)))
    facts = [[name, str(value)] for name, value in data.statistics.items()]
    parts.append(section("Data", table(["What", "Value"], facts)))
    return join(parts)


def _table(rows: Sequence[SummaryRow], protocol: str, metric: str) -> Markup:
    """Variants by groups: mean ± standard deviation; the highest mean of a column is bold."""
    columns = {
        group: found
        for group in ("all", *GROUPS, *HISTORY_GROUPS, *REPEAT_GROUPS)
        if (found := chosen(rows, protocol=protocol, group=group, metric=metric))
    }
    best = {group: max(row.mean for row in column) for group, column in columns.items()}
    cells = {
        (label(row), group): tag(
            "span", _spread(row), class_="best" if row.mean == best[group] else ""
        )
        for group, column in columns.items()
        for row in column
    }
    lines = [
        [label(row), *(cells.get((label(row), group), "–") for group in columns), _seeds(row)]
        for row in columns.get("all", [])
    ]
    head = ["Variant", *(_heading(group, column) for group, column in columns.items()), "Seeds"]
    caption = f"{metric_label(metric)}: mean ± standard deviation over seeds. Bold: highest mean."
    return table(head, lines, caption)


def _heading(group: str, column: Sequence[SummaryRow]) -> Markup:
    name = "All users" if group == "all" else f"{group.replace('_', ' ').capitalize()}s"
    users = tag("span", f"{column[0].users:,} users", class_="soft")
    return join([name, Markup("<br>"), users])


def _spread(row: SummaryRow) -> str:
    return number(row.mean) if row.std is None else f"{number(row.mean)} ± {number(row.std)}"


def _seeds(row: SummaryRow) -> str:
    return ", ".join(map(str, row.seeds))


def _figure(figure: Figure, path: Path) -> Markup:
    where = f" Numbers: {path.stem}_figures/{figure.name}.csv."
    svg = Markup(figure.inline().replace("<svg ", '<svg role="img" ', 1))
    drawn = tag("figure", svg, tag("figcaption", figure.caption, where))
    return join([tag("h3", figure.title), drawn])


def _summary_rows(rows: Sequence[SummaryRow]) -> Iterable[list[Any]]:
    keys = list(dict.fromkeys(key for row in rows for key in row.point))
    fixed = ["protocol", "group", "users", "metric", "mean", "std", "best", "seeds"]
    yield ["variant", "system", *keys, *fixed]
    for row in rows:
        values = [row.protocol, row.group, row.users, row.metric, row.mean, row.std, row.best]
        point = [row.point.get(key) for key in keys]
        yield [row.variant, row.system, *point, *values, " ".join(map(str, row.seeds))]


def _run_rows(rows: Sequence[Measurement]) -> Iterable[list[Any]]:
    keys = list(dict.fromkeys(key for row in rows for key in row.point))
    yield [
        "run",
        "variant",
        "system",
        *keys,
        "seed",
        "protocol",
        "group",
        "users",
        "metric",
        "value",
    ]
    for row in rows:
        values = [row.seed, row.protocol, row.group, row.users, row.metric, row.value]
        yield [row.run, row.variant, row.system, *(row.point.get(key) for key in keys), *values]


def _write_csv(path: Path, rows: Iterable[list[Any]]) -> None:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    with atomic_file(path) as work:
        work.write_text(written.getvalue(), encoding="utf-8")
