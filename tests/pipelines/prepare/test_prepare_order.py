"""`prepare` and the order of events: sorted logs, ties, repeats, the decision on seen items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from seqloom.cli.main import main
from seqloom.core.errors import DataError
from seqloom.data.store import Dataset
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare, statistics_table

ALL: dict[str, Any] = {"min_count": 0}


def sequences(path: Path, rows: list[list[str]]) -> Path:
    path.write_text("\n".join(" ".join([f"u{n}", *row]) for n, row in enumerate(rows)))
    return path


def mixed_rows(count: int = 60, length: int = 6) -> list[list[str]]:
    draw = torch.Generator().manual_seed(1)
    return [
        [f"i{item:03d}" for item in torch.randperm(100, generator=draw)[:length].tolist()]
        for _ in range(count)
    ]


def frame(rows: Sequence[tuple[str, str, float]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def kinds(data: Dataset) -> dict[str, int]:
    return {warning["kind"]: warning["count"] for warning in data.manifest.warnings}


@pytest.mark.parametrize("reverse", [False, True])
def test_a_log_sorted_by_item_id_stops(reverse: bool, tmp_path: Path) -> None:
    rows = [sorted(row, reverse=reverse) for row in mixed_rows()]
    log = sequences(tmp_path / "sequences.txt", rows)
    with pytest.raises(DataError, match=r"100.0% of the sequences .* set allow_sorted to go on"):
        prepare(log, tmp_path / "out", options=PrepareOptions(**ALL))
    assert not (tmp_path / "out").exists()
    data = prepare(log, tmp_path / "out", options=PrepareOptions(**ALL, allow_sorted=True))
    assert kinds(data)["sorted-sequences"] == 60
    shuffled = sequences(tmp_path / "shuffled.txt", mixed_rows())
    data = prepare(shuffled, tmp_path / "other", options=PrepareOptions(**ALL))
    assert "sorted-sequences" not in kinds(data)


def test_the_command_names_its_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = sequences(tmp_path / "sequences.txt", [sorted(row) for row in mixed_rows()])
    arguments = ["prepare", str(log), "--out", str(tmp_path / "out"), "--min-count", "0"]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "--allow-sorted" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--allow-sorted"])
    assert stopped.value.code in (0, None)


TIED = [
    ("a", "x", 1), ("a", "y", 2), ("a", "z", 3), ("a", "w", 3),  # both targets tied
    ("b", "x", 1), ("b", "y", 2), ("b", "z", 2), ("b", "w", 3),  # the validation target alone
    ("c", "x", 1), ("c", "y", 2), ("c", "z", 3), ("c", "w", 4),
    ("d", "x", 1), ("d", "y", 2), ("d", "z", 3), ("d", "z", 3),  # one item twice is no tie
]  # fmt: skip


def test_tied_targets_are_known_and_can_be_dropped(tmp_path: Path) -> None:
    stored = prepare(frame(TIED), tmp_path / "file", options=PrepareOptions(**ALL))
    assert stored.held_out("valid").tied is not None
    assert stored.held_out("valid").tied.tolist() == [True, True, False, False]
    assert stored.held_out("test").tied.tolist() == [True, False, False, False]
    ties = stored.manifest.statistics["ties"]
    assert ties == {
        "events": 4, "of": 16, "valid": 2, "valid_dropped": 0, "test": 1, "test_dropped": 0
    }  # fmt: skip
    dropped = prepare(
        frame(TIED), tmp_path / "drop", options=PrepareOptions(**ALL, ties="drop-targets")
    )
    assert dropped.held_out("valid").users.tolist() == [2, 3]
    assert dropped.held_out("test").users.tolist() == [1, 2, 3]
    assert dropped.training_hash == stored.training_hash
    test = stored.held_out("test")
    kept = test.select(torch.tensor([1, 2, 3]))
    again = dropped.held_out("test")
    assert again.targets.tolist() == kept.targets.tolist()
    assert again.histories.flat()[1].tolist() == kept.histories.flat()[1].tolist()
    facts = dropped.manifest.statistics
    assert (facts["ties"]["valid_dropped"], facts["ties"]["test_dropped"]) == (2, 1)
    assert facts["unused_events"] == 2  # both last events of a
    assert ("valid targets dropped for ties", "2") in statistics_table(dropped)


def test_a_shuffle_is_independent_of_the_file_and_keeps_the_rest(tmp_path: Path) -> None:
    rows = [(f"u{u}", f"i{(u * 7 + n * 5) % 23:02d}", n // 3) for u in range(40) for n in range(9)]

    def made(
        name: str, rows: Sequence[tuple[str, str, float]], **options: Any
    ) -> dict[str, list[str]]:
        data = prepare(frame(rows), tmp_path / name, options=PrepareOptions(**ALL, **options))
        items, offsets = data.events.items.tolist(), data.events.offsets.tolist()
        return {
            user: [data.item_ids[item - 1] for item in items[offsets[u] : offsets[u + 1]]]
            for u, user in enumerate(data.user_ids)
        }

    once = made("one", rows, ties="shuffle")
    assert made("back", rows[::-1], ties="shuffle") == once
    assert made("seed", rows, ties="shuffle", tie_seed=1) != once
    stored = made("file", rows)
    assert once != stored
    assert made("file-back", rows[::-1]) != stored
    for user, items in once.items():
        for first in range(0, 9, 3):  # each tie holds the same items
            assert sorted(items[first : first + 3]) == sorted(stored[user][first : first + 3])


@pytest.mark.parametrize("ties", ["shuffle", "drop-targets"])
def test_ties_need_times(ties: str, tmp_path: Path) -> None:
    log = sequences(tmp_path / "sequences.txt", mixed_rows())
    with pytest.raises(DataError, match="needs times, but the log has none"):
        prepare(log, tmp_path / "out", options=PrepareOptions(**ALL, ties=ties))


def test_fractions_of_seconds_are_no_ties(tmp_path: Path) -> None:
    rows = [
        ("a", "x", 1.5e9),
        ("a", "y", 1.5e9 + 0.25),
        ("a", "z", 1.5e9 + 0.5),
        ("a", "w", 1.5e9 + 0.5),
    ]
    data = prepare(frame(rows), tmp_path / "out", options=PrepareOptions(**ALL))
    assert data.tied is not None
    assert data.tied.tolist() == [False, False, True, True]
    assert data.events.joined is not None
    whole = prepare(frame(TIED), tmp_path / "whole", options=PrepareOptions(**ALL))
    assert whole.events.joined is None  # seconds say it, as in older data sets


def test_repeats_decide_on_seen_items(tmp_path: Path) -> None:
    rows = mixed_rows()
    often = [[*row, row[0], row[1], *row[2:4]] for row in rows]
    fresh = prepare(
        sequences(tmp_path / "a.txt", rows), tmp_path / "a", options=PrepareOptions(**ALL)
    )
    assert fresh.masks_seen
    assert fresh.manifest.statistics["mask_seen"] is True
    log = sequences(tmp_path / "b.txt", often)
    data = prepare(log, tmp_path / "b", options=PrepareOptions(**ALL))
    assert not data.masks_seen
    repeats = data.manifest.statistics["repeats"]
    assert repeats["train"]["repeats"] == 120
    assert repeats["train"]["steps"]["median"] == 6
    assert (repeats["valid"]["share"], repeats["test"]["share"]) == (1.0, 1.0)
    shown = dict(statistics_table(data))
    shares = shown["repeats (training events / validation / test targets)"]
    assert shares.endswith("100.0\N{NARROW NO-BREAK SPACE}% / 100.0\N{NARROW NO-BREAK SPACE}%")
    assert shown["seen items"].startswith("kept in lists and ranking (auto")
    forced = prepare(log, tmp_path / "c", options=PrepareOptions(**ALL, mask_seen="yes"))
    assert forced.masks_seen
    assert kinds(forced)["repeated-targets"] == 120
    assert forced.fingerprint == data.fingerprint
    # A data set of an older version states nothing; its training part decides.
    statistics = {k: v for k, v in data.manifest.statistics.items() if k != "mask_seen"}
    older = data.manifest.model_copy(update={"statistics": statistics})
    assert not Dataset(data.path, older, data.events).masks_seen
