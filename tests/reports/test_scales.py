"""Axes contain zero and all values, with round ticks."""

from __future__ import annotations

import pytest

from seqloom.reports.scales import nice_step, scale_of, tick_label


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.097, 0.09], (0.0, 0.02, 0.04, 0.06, 0.08, 0.1)),
        ([0.1016], (0.0, 0.05, 0.1, 0.15)),
        ([-0.02, 0.01], (-0.02, -0.01, 0.0, 0.01)),
        ([0.0, None], (0.0, 1.0)),
        ([], (0.0, 1.0)),
    ],
)
def test_ticks_are_round(values: list[float | None], ticks: tuple[float, ...]) -> None:
    scale = scale_of(values)
    assert scale.ticks == pytest.approx(ticks)
    for value in values:
        assert 0.0 <= scale.at(value or 0.0) <= 100.0


def test_places_are_percent_of_the_axis() -> None:
    scale = scale_of([-1.0, 3.0])
    assert (scale.at(scale.low), scale.at(scale.high)) == (0.0, 100.0)
    assert scale.at(99.0) == 100.0
    assert {label: place for place, label in scale.marks}["0"] == scale.at(0.0)


def test_labels_and_steps() -> None:
    assert [tick_label(v) for v in (0.05, 1500.0, -0.1, 0.0)] == ["0.05", "1,500", "−0.1", "0"]
    assert [nice_step(v) for v in (0.011, 0.02, 3.0, 7.0)] == pytest.approx([0.02, 0.02, 5.0, 10.0])
