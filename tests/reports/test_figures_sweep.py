"""A sweep's figures have the numbers of its table; only numeric keys are drawn."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from seqloom.reports.figures_sweep import ablation, numeric_keys, sensitivity
from seqloom.reports.sweep_table import Measurement, SummaryRow, summarise

ALPHAS = (0.01, 0.1, 1.0)


def measurement(
    variant: str, point: dict, seed: int, value: float, group: str = "all"
) -> Measurement:
    return Measurement(
        run=f"{variant}{point}{seed}",
        variant=variant,
        system="llmesr",
        seed=seed,
        point=point,
        protocol="full",
        group=group,
        users=50,
        metric="ndcg@10",
        value=value,
    )


@pytest.fixture
def table() -> list[SummaryRow]:
    ones = []
    for group, shift in (("all", 0.0), ("tail_item", -0.2)):
        for place, alpha in enumerate(ALPHAS):
            for kind in ("mse", "contrast"):
                point = {"alpha": alpha, "kind": kind}
                ones += [
                    measurement(
                        "LLM-ESR", point, seed, 0.3 + 0.01 * place + 0.002 * seed + shift, group
                    )
                    for seed in (1, 2, 3)
                ]
        ones.append(measurement("SASRec $x$", {}, 1, 0.25 + shift, group))
    return summarise(ones)


def test_the_summary_by_hand() -> None:
    (row,) = summarise(measurement("a", {}, seed, value) for seed, value in ((1, 0.1), (2, 0.4)))
    assert row.mean == pytest.approx(0.25)
    assert row.std == pytest.approx(0.3 / 2**0.5)  # the sample's, not the population's
    assert (row.best, row.seeds, row.users) == (0.4, [1, 2], 50)
    (alone,) = summarise([measurement("a", {}, 1, 0.1)])
    assert alone.std is None


def test_only_numeric_keys_are_drawn(table: list[SummaryRow]) -> None:
    assert numeric_keys(table) == ["alpha"]


def test_a_curve_for_each_setting_of_the_other_keys(table: list[SummaryRow]) -> None:
    figure = sensitivity(table, "alpha", "ndcg@10")
    columns = figure.columns
    rows = [dict(zip(columns, row, strict=True)) for row in figure.rows]
    assert {row["series"] for row in rows} == {
        "LLM-ESR (kind=mse)",
        "LLM-ESR (kind=contrast)",
        "SASRec $x$",
    }
    curve = [r["mean"] for r in rows if r["series"] == "LLM-ESR (kind=mse)" and r["group"] == "all"]
    assert curve == pytest.approx([0.304, 0.314, 0.324])
    assert next(r["alpha"] for r in rows if r["series"] == "SASRec $x$") is None
    drawn = text_of(figure.svg)
    for label in (
        "0.01",
        "alpha",
        "NDCG@10",
        "all users (n = 50 users)",
        "rare items (n = 50 users)",
    ):
        assert label in drawn


def test_the_ablation_has_the_change_against_the_first_variant(table: list[SummaryRow]) -> None:
    figure = ablation(table, "ndcg@10")
    rows = [dict(zip(figure.columns, row, strict=True)) for row in figure.rows]
    assert rows[0]["relative"] == 0
    last = next(row for row in rows if row["variant"] == "SASRec $x$")
    assert last["relative"] == pytest.approx(0.25 / 0.304 - 1)
    assert "n = 50 users" in text_of(figure.svg)


def text_of(svg: str) -> str:
    root = ElementTree.fromstring(svg)
    return "\n".join(element.text or "" for element in root.iter() if element.tag.endswith("text"))
