"""A data set's events as a frame."""

from __future__ import annotations

from pathlib import Path

import seqloom
from support.datasets import prepared_dataset


def test_the_frame_has_every_event_with_its_part(tmp_path: Path) -> None:
    dataset = prepared_dataset(tmp_path / "data")
    frame = dataset.to_polars()
    assert frame.height == dataset.num_events
    counts = dict(frame["part"].value_counts().iter_rows())
    assert counts["train"] == int(dataset.train.lengths.sum())
    assert counts["test"] == len(dataset.held_out("test").users)
    targets = frame.filter(part="test").select("user_id", "item_id").rows()
    held_out = dataset.held_out("test")
    expected = [
        (dataset.user_ids[user], dataset.item_ids[item - 1])
        for user, item in zip(held_out.users.tolist(), held_out.targets.tolist(), strict=True)
    ]
    assert targets == expected
    assert dataset.to_pandas().shape == frame.shape


def test_a_data_set_describes_itself(tmp_path: Path) -> None:
    dataset = prepared_dataset(tmp_path / "shop")
    assert repr(dataset).startswith("<Dataset shop: users 60, items ")
    html = dataset._repr_html_()
    assert "<th style='text-align:left'>users</th>" in html
    assert isinstance(dataset, seqloom.Dataset)
