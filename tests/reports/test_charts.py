"""Labels do not touch each other or the points."""

from __future__ import annotations

import itertools

from seqloom.reports.charts import Point, place_labels, spread_labels
from seqloom.reports.csv_link import CsvLink


def test_labels_of_points_have_room_or_are_left_out() -> None:
    points = [Point(f"run {n}", 1, x, 50.0, "") for n, x in enumerate((5.0, 30.0, 95.0))]
    placed = place_labels(points)
    assert [p.label[2] if p.label else None for p in placed] == ["start", "start", "end"]
    crowd = place_labels([Point(f"a long name {n}", 1, 50.0, 50.0, "") for n in range(30)])
    labels = [p.label for p in crowd if p.label]
    assert 0 < len(labels) < 30
    assert len(set(labels)) == len(labels)


def test_labels_at_the_edge_keep_their_order_and_distance() -> None:
    ends = [50.0, 50.0, 20.0, 99.0, 98.0]
    places = spread_labels(ends, 10.0)
    assert sorted(range(5), key=lambda n: places[n]) == [2, 0, 1, 4, 3]
    assert all(b - a >= 9.99 for a, b in itertools.pairwise(sorted(places)))
    assert max(places) <= 100.0


def test_numbers_are_saved_from_a_link() -> None:
    link = CsvLink("n", ("run", "value"), [("a,b", 1.5), ("c", None)])
    assert link.text == 'run,value\n"a,b",1.5\nc,\n'
    assert link.uri == "data:text/csv;charset=utf-8,run%2Cvalue%0A%22a%2Cb%22%2C1.5%0Ac%2C%0A"
