"""One HTML file about an evaluation: it loads nothing from elsewhere and prints well.

Figures stand inside the file and, as SVG with the numbers behind them as CSV, in
`<stem>_figures/` beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from seqloom.core.errors import ConfigError
from seqloom.core.files import atomic_file
from seqloom.evaluation.compare import Comparison, Pair
from seqloom.evaluation.groups import GROUPS, HISTORY_GROUPS, REPEAT_GROUPS
from seqloom.evaluation.metrics import MISSED, RANK_METRICS, metric_label
from seqloom.evaluation.sentences import format_p
from seqloom.reports.audit import audit_tables
from seqloom.reports.columns import in_group, marked, overall
from seqloom.reports.data import ReportData, SampleUser, ShownItem, SystemResult
from seqloom.reports.figure_style import Figure
from seqloom.reports.figures import forest, group_bars, long_tail_figure, training_curves
from seqloom.reports.figures_tradeoff import shows_tradeoff, tradeoff
from seqloom.reports.grid import grid_table
from seqloom.reports.item_map import item_map_figure
from seqloom.reports.markup import Markup, duration, join, number, section, table, tag, text
from seqloom.reports.seeds import seeds_table

_LIST_LABELS = {
    "coverage": "Coverage",
    "popularity": "Mean popularity",
    "popularity_percentile": "Popularity percentile",
    "novelty": "Novelty (bits)",
}


def write_report(path: str | Path, data: ReportData) -> Path:
    """Write the report at `path` and its figures in `<stem>_figures/`; gives the file's path.

    Raises:
        ConfigError: there is no system, or two systems have one name.
    """
    path = Path(path)
    names = [system.name for system in data.systems]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"a report needs systems with different names; found {names}")
    drawn = draw_figures(data)
    for figure in drawn:
        figure.save(path.with_name(f"{path.stem}_figures"))
    template = Template(
        files("seqloom.reports").joinpath("report.html").read_text(encoding="utf-8")
    )
    page = template.substitute(title=text(data.title), body=_body(data, drawn, path))
    with atomic_file(path) as work:
        work.write_text(page, encoding="utf-8")
    return path


def draw_figures(data: ReportData) -> list[Figure]:
    """The figures that the data allow."""
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


def _body(data: ReportData, drawn: Sequence[Figure], path: Path) -> Markup:
    parts = [
        tag("h1", data.title),
        tag("p", f"Data set {data.dataset}. {data.created}.", class_="soft"),
    ]
    if data.comparison:
        found = [tag("li", sentence) for sentence in _findings(data.comparison)]
        parts.append(section("Findings", tag("ul", *found, class_="findings")))
    if data.notes:
        noted = tag("ul", *(tag("li", note) for note in data.notes))
        parts.append(section("Notes", tag("div", noted, class_="notes")))
    parts += [
        section("Protocol", tag("p", data.protocol.statement()), _fingerprint(data)),
        section("Data", _facts(data)),
        section("Accuracy", _accuracy(data.systems)),
    ]
    if any(system.groups for system in data.systems):
        parts.append(section("Tail and head", _groups(data)))
    if all(system.grid for system in data.systems):
        parts.append(section("Short and long histories, rare and popular items", grid_table(data)))
    if any(_list_metrics(system) for system in data.systems):
        parts.append(section("What is recommended", _lists(data.systems)))
    if data.comparison:
        parts.append(section("Significance", *_significance(data.comparison)))
        if data.comparison.over_seeds:
            parts.append(section("Over seeds", seeds_table(data.comparison.over_seeds)))
    if drawn:
        parts.append(section("Figures", *(_figure(figure, path) for figure in drawn)))
    parts.append(section("Cost", _cost(data.systems)))
    parts.append(section("Audit", *audit_tables(data.systems)))
    if data.samples:
        parts.append(section("Sample users", *(_sample(user) for user in data.samples)))
    if data.versions:
        parts.append(section("Versions", table(["Package", "Version"], [*data.versions.items()])))
    return join(parts)


def _findings(comparison: Comparison) -> list[str]:
    """What the comparison says in words: each pair, over seeds, whether the language model pays."""
    main = comparison.over_seeds[0].metric if comparison.over_seeds else ""
    return [
        *(pair.sentence for pair in comparison.pairs),
        *(each.sentence for each in comparison.over_seeds if each.metric == main),
        *(pair.pays for pair in comparison.pairs if pair.pays),
    ]


def _fingerprint(data: ReportData) -> Markup:
    return tag("p", "Data set fingerprint: ", tag("code", data.protocol.fingerprint), class_="soft")


def _facts(data: ReportData) -> Markup:
    facts = [
        tag("div", tag("dt", label), tag("dd", _fact(value)))
        for label, value in data.statistics.items()
    ]
    return tag("dl", *facts, class_="facts")


def _fact(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.6g}" if isinstance(value, float) else number(value)


def _accuracy(systems: Sequence[SystemResult]) -> Markup:
    names = [name for name in RANK_METRICS if any(name in s.metrics for s in systems)]
    rows = marked(systems, [overall(name) for name in names])
    head = ["Run", *(metric_label(name) for name in names)]
    return table(head, rows, "Means over users. The best of each column is bold.")


def _groups(data: ReportData) -> Markup:
    metric = data.figure_metric
    first = next(system for system in data.systems if system.groups)
    names = [name for name in (*GROUPS, *HISTORY_GROUPS, *REPEAT_GROUPS) if name in first.groups]
    columns = [overall(metric), *(in_group(metric, name) for name in names)]
    head: list[object] = ["Run", "All users"]
    head += [
        join([_label(name).capitalize(), Markup("<br>"), _users(first, name)]) for name in names
    ]
    cut = ""
    if data.long_tail:
        at = data.long_tail.thresholds
        cut = (
            f" Head items have {at.item:,} or more training events, head users {at.user:,} or more."
        )
    return table(head, marked(data.systems, columns), f"{metric_label(metric)}.{cut}")


def _users(system: SystemResult, group: str) -> Markup:
    return tag("span", f"{system.groups[group].users:,} users", class_="soft")


def _list_metrics(system: SystemResult) -> list[str]:
    return [name for name in system.metrics if name.partition("@")[0] in _LIST_LABELS]


def _lists(systems: Sequence[SystemResult]) -> Markup:
    names = list(dict.fromkeys(name for system in systems for name in _list_metrics(system)))
    names = [name for name in names if name.endswith("@10")] or names
    head = ["Run"]
    for name in names:
        kind, _, cutoff = name.partition("@")
        head.append(f"{_LIST_LABELS[kind]} @{cutoff}")
    rows = [[system.name, *(number(system.metrics.get(n)) for n in names)] for system in systems]
    caption = (
        "Coverage: share of the catalogue that anybody is recommended. Popularity: training events "
        "of recommended items; percentile: 50 is what a random choice gives. Novelty: -log2 of the "
        "item's share of training events."
    )
    return table(head, rows, caption)


def _significance(comparison: Comparison) -> list[Markup]:
    caption = (
        f"{comparison.reference_chosen} "
        f"Difference: run minus reference, with its {100 * comparison.confidence:g} % bootstrap "
        f"interval over users ({comparison.resamples:,} resamples). p: two-sided paired sign-flip "
        f"test ({comparison.flips:,} flips); Holm and BH: corrected for all "
        f"{comparison.comparisons} tests of this report."
    )
    return [tag("p", caption, class_="soft"), *map(_pair, comparison.pairs)]


def _pair(pair: Pair) -> Markup:
    head = ["Metric", "Users", pair.reference, pair.run, "Difference", "Relative"]
    head += ["Interval", "p", "Holm", "BH", "d_z"]
    rows = [
        [
            metric_label(d.metric) + ("" if d.group == "all" else f", {_label(d.group)}"),
            number(d.users),
            number(d.reference),
            number(d.run),
            _signed(d.difference, 4),
            "–" if d.relative is None else f"{_signed(100 * d.relative, 1)} %",
            "–" if d.low is None else f"[{_signed(d.low, 4)}, {_signed(d.high, 4)}]",
            *(_p(p) for p in (d.p, d.p_holm, d.p_bh)),
            _signed(d.effect_size, 3),
        ]
        for d in pair.differences
    ]
    return join([tag("h3", f"{pair.run} against {pair.reference}"), table(head, rows)])


def _label(group: str) -> str:
    return f"{group.replace('_', ' ')}s"


def _p(p: float | None) -> str:
    return "–" if p is None else format_p(p).removeprefix("p ").removeprefix("= ")


def _signed(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def _figure(figure: Figure, path: Path) -> Markup:
    where = f" Numbers: {path.stem}_figures/{figure.name}.csv."
    svg = Markup(figure.inline().replace("<svg ", '<svg role="img" ', 1))
    return join(
        [tag("h3", figure.title), tag("figure", svg, tag("figcaption", figure.caption, where))]
    )


def _cost(systems: Sequence[SystemResult]) -> Markup:
    head = ["Run", "System", "Embedding texts", "Training", "One request (ms)", "Evaluation"]
    head += ["Peak memory (MiB)", "Parameters", "Trained", "Device"]
    rows = [
        [
            s.name,
            s.system,
            duration(s.embed_seconds or None),
            duration(s.train_seconds),
            number(s.latency_ms, 1),
            duration(s.evaluate_seconds),
            number(s.peak_rss_mb, 0),
            number(s.parameters),
            number(s.trained_parameters),
            s.device or "–",
        ]
        for s in systems
    ]
    caption = (
        "Training: all attempts together, of an ensemble its members too. One request: the median time "
        "from one history to its ten best items, without a server. Evaluation: scoring and ranking all "
        "users. Peak memory is that of the training process."
    )
    return table(head, rows, caption)


def _sample(user: SampleUser) -> Markup:
    cut = "" if user.history_length == len(user.history) else f", the last {len(user.history)}"
    blocks = [
        _list(
            f"History ({user.history_length} items{cut}; oldest first)", user.history, user.target
        )
    ]
    for name, items in user.recommendations.items():
        rank = f" ({_place(user.ranks[name])})" if name in user.ranks else ""
        blocks.append(_list(f"{name}{rank}", items, user.target))
    target = tag("p", "Next came: ", tag("span", user.target.title, class_="hit"))
    return tag(
        "article", tag("h3", f"User {user.user_id}"), target, tag("div", *blocks, class_="lists")
    )


def _place(rank: int) -> str:
    if rank == MISSED:
        return "the target is masked: it is in the history"
    return f"target at rank {rank:,}"


def _list(title: str, items: Sequence[ShownItem], target: ShownItem) -> Markup:
    lines = [
        tag("li", tag("span", item.title, title=item.title, class_="hit" if item == target else ""))
        for item in items
    ]
    return tag("div", tag("h4", title), tag("ol", *lines))
