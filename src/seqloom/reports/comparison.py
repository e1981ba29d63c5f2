"""The report of a comparison: one HTML file that loads nothing from elsewhere and prints well.

Figures are inside the file and, as SVG with the numbers behind them as CSV, in `<stem>_figures/` beside it.
"""

from __future__ import annotations

from pathlib import Path

from seqloom.core.errors import ConfigError
from seqloom.evaluation.compare import Comparison
from seqloom.reports.audit import audit_tables
from seqloom.reports.columns import (
    accuracy,
    both_protocols,
    by_group,
    by_user_and_item,
    recommended,
)
from seqloom.reports.data import ReportData
from seqloom.reports.figure_style import Figure
from seqloom.reports.figures import forest, group_bars, long_tail_figure, training_curves
from seqloom.reports.figures_tradeoff import shows_tradeoff, tradeoff
from seqloom.reports.item_map import item_map_figure
from seqloom.reports.pages import write_page


def write_report(path: str | Path, data: ReportData) -> Path:
    """Writes the report at `path` and its figures in `<stem>_figures/`; returns `path`.

    Raises:
        ConfigError: there are no systems, or two systems have the same name.
    """
    path = Path(path)
    names = [system.name for system in data.systems]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"a report needs systems with different names; got {names}")
    systems, metric = data.systems, data.figure_metric
    return write_page(
        path,
        "comparison.html.j2",
        draw_figures(data),
        report=data,
        findings=_findings(data.comparison) if data.comparison else [],
        accuracy=accuracy(systems),
        protocols=both_protocols(systems, masked=data.protocol.masked),
        groups=by_group(systems, metric),
        grid=by_user_and_item(systems, metric),
        lists=recommended(systems),
        audit=audit_tables(systems),
    )


def draw_figures(data: ReportData) -> list[Figure]:
    """Draws the figures that the data allow."""
    metric, systems = data.figure_metric, data.systems
    drawn = []
    if data.comparison and any(
        d.metric == metric for pair in data.comparison.pairs for d in pair.differences
    ):
        drawn.append(forest(data.comparison, metric))
    if data.long_tail:
        drawn.append(long_tail_figure(data.long_tail, systems, metric))
    if all(system.item_bins for system in systems):
        drawn.append(group_bars(systems, "items", metric))
    if all(system.user_bins for system in systems):
        drawn.append(group_bars(systems, "users", metric))
    if len(systems) > 1 and shows_tradeoff(systems, metric):
        drawn.append(tradeoff(systems, metric))
    if data.item_maps:
        drawn.append(item_map_figure(data.item_maps))
    trained = [system for system in systems if system.log]
    if trained:
        drawn.append(training_curves(trained, metric))
    return drawn


def _findings(comparison: Comparison) -> list[str]:
    """Lists the sentences on each pair, on systems over their seeds, and on costs and benefits."""
    main = comparison.over_seeds[0].metric if comparison.over_seeds else ""
    return [
        *(pair.sentence for pair in comparison.pairs),
        *(each.sentence for each in comparison.over_seeds if each.metric == main),
        *(pair.pays for pair in comparison.pairs if pair.pays),
    ]
