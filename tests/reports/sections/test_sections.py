"""Headings are made from the tests, and charts hold the numbers of the comparison."""

from __future__ import annotations

from typing import Any

import pytest

from seqloom.evaluation.compare import Comparison
from seqloom.reports.data import ReportData, Setup, SystemResult
from seqloom.reports.marks import assign_marks
from seqloom.reports.sections.cost import cost_charts, cost_heading
from seqloom.reports.sections.gains import bin_chart, gains_heading, group_charts
from seqloom.reports.sections.item_maps import map_view
from seqloom.reports.sections.ranking import in_plain_words, rankings
from seqloom.reports.sections.settings import settings_tables
from seqloom.reports.sections.significance import forests, significance_heading
from seqloom.reports.sections.training import training_chart, training_heading
from seqloom.reports.sections.what_pays import chain, chain_heading, price_of

MODEL = "LLM <ESR> $1$"


def with_systems(data: ReportData, **changes: list[object]) -> ReportData:
    systems = [
        system.model_copy(update={key: values[n] for key, values in changes.items()})
        for n, system in enumerate(data.systems)
    ]
    return data.model_copy(update={"systems": systems})


def with_differences(data: ReportData, **changes: object) -> ReportData:
    """Changes all differences of the groups (not those over all users)."""
    pairs = [
        pair.model_copy(
            update={
                "differences": [
                    d if d.group == "all" else d.model_copy(update=changes)
                    for d in pair.differences
                ]
            }
        )
        for pair in data.comparison.pairs
    ]
    comparison = data.comparison.model_copy(update={"pairs": pairs})
    return data.model_copy(update={"comparison": comparison})


def test_the_ranking_is_by_value_and_states_gap_and_chance(report_data: ReportData) -> None:
    marks = assign_marks(report_data.systems, report_data.comparison)
    charts = rankings(report_data, marks)
    assert [chart.title for chart in charts] == ["NDCG@10", "HR@10"]
    rows = charts[0].rows
    assert rows[0].x >= rows[1].x
    assert {row.change for row in rows} & {"Reference"}
    for row in rows:
        score = report_data.comparison.score(row.name, "ndcg@10")
        assert score is not None
        assert f"{score.value:.4f}" in row.tip
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.x <= row.high


def test_plain_words_count_users(report_data: ReportData) -> None:
    hits: list[object] = [{"hr@10": 0.194}, {"hr@10": 0.08}]
    data = with_systems(report_data, metrics=hits)
    assert in_plain_words(data) == (
        "SASRec has the item that a user chose next among its first ten for 19 of 100 users, "
        f"{MODEL} for 8."
    )
    rare = with_systems(report_data, metrics=[{"hr@10": 0.004}, {"hr@10": 0.002}])
    assert "for 4 of 1,000 users" in in_plain_words(rare)


@pytest.mark.parametrize(
    ("seconds", "latency", "heading"),
    [
        (
            [84.0, 143.0],
            [1.7, 1.8],
            f"{MODEL} takes 1.7 times as long to train as SASRec and answers as fast",
        ),
        ([100.0, 40.0], [1.0, None], f"{MODEL} trains in 40 % of the time of SASRec"),
        ([0.1, 150.0], [1.0, 9.0], f"{MODEL} trains in 2 min, SASRec in 0.1 s"),
        ([None, None], [2.0, 30.0], f"{MODEL} takes 15 times as long to answer"),
        ([None, None], [None, None], "What the runs cost"),
    ],
)
def test_the_heading_of_the_cost(
    report_data: ReportData, seconds: list[object], latency: list[object], heading: str
) -> None:
    data = with_systems(report_data, train_seconds=seconds, latency_ms=latency)
    marks = assign_marks(data.systems, data.comparison)
    assert cost_heading(data, marks).replace("\u202f", " ") == heading
    known = [values for values in (seconds, latency) if None not in values]
    assert len(cost_charts(data, marks)) == len(known)


def test_the_frontier_joins_runs_that_no_other_beats(report_data: ReportData) -> None:
    data = with_systems(report_data, train_seconds=[10.0, 20.0])
    chart = cost_charts(data, assign_marks(data.systems, data.comparison))[0]
    best = max(data.systems, key=lambda s: s.metrics["ndcg@10"])
    assert len(chart.frontier) == (1 if best.train_seconds == 10.0 else 2)
    assert chart.title == "Training time, s"
    assert [row[1] for row in chart.csv.rows] == [10.0, 20.0]


def test_headings_of_groups_follow_the_tests(report_data: ReportData) -> None:
    marks = assign_marks(report_data.systems, report_data.comparison)
    none = with_differences(report_data, p_holm=0.9)
    assert gains_heading(none, marks).startswith("In none of the ")
    better = with_differences(report_data, p_holm=0.001, difference=0.1)
    assert gains_heading(better, marks).startswith(f"{MODEL} is above SASRec on rare items, ")
    worse = with_differences(report_data, p_holm=0.001, difference=-0.1)
    assert gains_heading(worse, marks).startswith(f"{MODEL} is below SASRec on rare items, ")


def test_small_charts_share_a_scale_and_bins_are_lines(report_data: ReportData) -> None:
    marks = assign_marks(report_data.systems, report_data.comparison)
    charts = group_charts(report_data, marks)
    assert len({chart.scale for chart in charts}) == 1
    assert charts[0].title == "Rare items"
    assert "under" in charts[0].note
    assert "Repeated items" not in [chart.title for chart in charts]  # masked: a miss for all
    lines = bin_chart(report_data, marks, "items")
    assert lines is not None
    assert [len(line.points) for line in lines.lines] == [len(report_data.systems[0].item_bins)] * 2
    bare = with_systems(report_data, item_bins=[[], []])
    assert bin_chart(bare, marks, "items") is None


def test_filled_marks_hold_after_the_correction(report_data: ReportData) -> None:
    marks = assign_marks(report_data.systems, report_data.comparison)
    for p, filled in ((0.001, True), (0.2, False)):
        data = with_differences(report_data, p_holm=p)
        (chart,) = forests(data, marks)
        assert {row.filled for row in chart.rows[1:]} == {filled}
    comparison: Comparison = with_differences(report_data, p_holm=0.9).comparison
    held = significance_heading(comparison)
    assert (
        held.endswith(f"of {comparison.comparisons} differences hold after correction")
        or held[0] == "1"
    )


def test_training_curves_and_settings(report_data: ReportData) -> None:
    marks = assign_marks(report_data.systems, report_data.comparison)
    chart = training_chart(report_data, marks)
    assert chart is not None
    assert len(chart.csv.rows) == 4  # two epochs of two runs
    assert training_heading(report_data) == "On validation, SASRec was ahead"
    assert training_chart(with_systems(report_data, log=[[], []]), marks) is None
    setups = [Setup(settings={"a": "1", "b": "2"}), Setup(settings={"a": "1", "b": "3", "c": "4"})]
    tables = settings_tables(with_systems(report_data, setup=list(setups)))
    assert tables.differing == [("b", ["2", "3"])]
    assert tables.all[-1] == ("c", ["–", "4"])


def chained(report_data: ReportData, kinds: list[Any], **fields: Any) -> ReportData:
    setups: list[object] = [Setup(text_kind=kind, **fields) for kind in kinds]
    return with_systems(report_data, setup=setups)


def test_what_pays_is_a_chain_from_ids_to_words(report_data: ReportData) -> None:
    data = chained(report_data, ["ids", "tuned"]).model_copy(update={"price_per_hour": 3.6})
    marks = assign_marks(data.systems, data.comparison)
    found = chain(data, marks)
    assert found is not None
    assert [step.kind for step in found.steps] == ["IDs only", "text tuned by the log"]
    assert found.steps[0].price == "0.0125"  # 12.5 s at 3.6 an hour
    assert price_of(data.systems[0], 3.6) == pytest.approx(0.0125)
    assert [chart.title for chart in found.charts] == ["All users", "Rare items"]
    assert any("new items are not measured" in text for text in found.left_out)
    overall = data.comparison.pairs[0].differences[0]
    heading = chain_heading(data, found)
    shown = (overall.p_holm or 1.0) < 0.05 and (overall.difference or 0.0) > 0
    assert heading.startswith("Gains over SASRec" if shown else "No step of the chain")


def test_runs_of_unknown_kind_are_left_out_and_said(report_data: ReportData) -> None:
    data = chained(report_data, ["ids", None], text_kind_reason="an ensemble")
    marks = assign_marks(data.systems, data.comparison)
    assert chain(data, marks) is None  # one kind is no chain
    third: SystemResult = data.systems[1].model_copy(
        update={"name": "third", "setup": Setup(text_kind="words")}
    )
    data = data.model_copy(update={"systems": [*data.systems, third]})
    found = chain(data, assign_marks(data.systems, data.comparison))
    assert found is not None
    assert found.left_out[0] == f"Left out: {MODEL} (an ensemble)."


def test_maps_have_titles_and_colours(report_data: ReportData) -> None:
    view = map_view(report_data)
    assert view is not None
    assert next(c.key for c in view.colourings) == "popularity"
    assert len(view.tips) == len(view.panels[0].x) == 12
    assert "training event" in view.tips[0]
    items = report_data.mapped_items
    assert items is not None
    parted = items.model_copy(
        update={"category_column": "genre", "categories": ["a", "b"] * 6, "events": [0, 5] * 6}
    )
    view = map_view(report_data.model_copy(update={"mapped_items": parted}))
    assert view is not None
    assert [c.title for c in view.colourings] == ["Training events", "Genre", "New items"]
    assert view.css_class(0) == "p0 c1 n1"
    assert map_view(report_data.model_copy(update={"item_maps": []})) is None
