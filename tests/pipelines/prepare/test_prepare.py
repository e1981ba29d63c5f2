"""The whole of `prepare`: what lands in the folder, and when no folder appears."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest
import torch

from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.progress import SilentProgress
from seqloom.data import store
from seqloom.data.store import Dataset
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare, statistics_table

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
ALL = PrepareOptions(min_count=0)
LOG = "user_id,item_id,timestamp,rating\n" + "".join(
    f"{user},{item},{1_500_000_000 + time},{rating}\n"
    for user, item, time, rating in [
        ("v", "b", 50, 5), ("u", "a", 10, 5), ("u", "b", 30, 4), ("v", "a", 20, 1),
        ("u", "c", 20, 5), ("v", "c", 20, 2), ("u", "b", 40, 3), ("w", "d", 5, 5),
    ]
)  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    return path


class Recorder(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def histories(dataset: Dataset) -> dict[str, list[str]]:
    events = dataset.events
    bounds = events.offsets.tolist()
    items = [dataset.item_ids[number - 1] for number in events.items.tolist()]
    return {user: items[bounds[u] : bounds[u + 1]] for u, user in enumerate(dataset.user_ids)}


def test_leave_one_out_from_end_to_end(log: Path, tmp_path: Path) -> None:
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["A", "B", None]})
    progress = Recorder()
    dataset = prepare(log, tmp_path / "out", items=items, options=ALL, progress=progress)
    assert dataset.user_ids == ["v", "u", "w"]
    assert dataset.item_ids == ["b", "a", "c", "d"]
    assert histories(dataset) == {
        "v": ["a", "c", "b"],
        "u": ["a", "c", "b", "b"],
        "w": ["d"],
    }
    test = dataset.held_out("test")
    assert test.users.tolist() == [0, 1]
    assert test.targets.tolist() == [1, 1]
    assert dataset.train.lengths.tolist() == [1, 2, 1]
    assert dataset.events.timestamps is not None
    assert dataset.events.timestamps.tolist()[0] == 1_500_000_020
    assert dataset.items.to_pylist() == [
        {"item_id": "b", "title": "B"},
        {"item_id": "a", "title": "A"},
        {"item_id": "c", "title": ""},
        {"item_id": "d", "title": ""},
    ]
    facts = dataset.manifest.statistics
    assert (facts["users"], facts["items"], facts["events"]) == (3, 4, 8)
    assert facts["items_without_text"] == 2
    assert facts["density"] == pytest.approx(8 / 12)
    assert (facts["mean_length"], facts["median_length"]) == (pytest.approx(8 / 3), 3)
    assert facts["first_date"] == "2017-07-14T02:40:05Z"
    assert (facts["train_events"], facts["train_only_users"]) == (4, 1)
    assert facts["test_targets_not_in_train"] == 2
    kinds = {w["kind"]: w["count"] for w in dataset.manifest.warnings}
    assert kinds == {"short-user": 1, "item-without-text": 2, "equal-times": 2}
    assert len(progress.warnings) == 3
    assert any("as csv (detected): user_id='user_id'" in note for note in progress.notes)


def test_the_manifest_names_files_with_size_and_hash(log: Path, tmp_path: Path) -> None:
    manifest = prepare(log, tmp_path / "out", options=ALL).manifest
    digest = hashlib.sha256(LOG.encode()).hexdigest()
    expected = {"role": "log", "path": str(log), "bytes": len(LOG), "sha256": digest}
    assert manifest.sources == [expected]
    assert manifest.options["format"] == "csv"
    rebuilt = PrepareOptions.build(manifest.options)
    assert rebuilt == PrepareOptions(min_count=0, format="csv")


def test_same_input_same_fingerprint(log: Path, tmp_path: Path) -> None:
    one = prepare(log, tmp_path / "one", options=ALL)
    two = prepare(pl.read_csv(log), tmp_path / "two", options=ALL)
    assert one.fingerprint == two.fingerprint
    other = prepare(log, tmp_path / "three", options=PrepareOptions(min_count=0, min_rating=2))
    assert other.fingerprint != one.fingerprint


def test_filters_in_order(log: Path, tmp_path: Path) -> None:
    options = PrepareOptions(
        min_rating=2, duplicates="last", min_user_count=2, min_item_count=2, min_count=0
    )
    dataset = prepare(log, tmp_path / "out", options=options)
    # Without the rating 1 (v, a) item a has one event; u keeps the later b.
    assert histories(dataset) == {"v": ["c", "b"], "u": ["c", "b"]}
    facts = dataset.manifest.statistics
    assert facts["removed"] == {"min_rating": 1, "duplicates": 1, "k-core": 2}
    assert facts["raw"]["events"] == 8
    rows = dict(statistics_table(dataset))
    assert rows["events"] == "4 of 8"
    assert rows["removed by k-core"] == "2"


def test_temporal_by_times(log: Path, tmp_path: Path) -> None:
    options = PrepareOptions(
        min_count=0, split="temporal", valid_from=1_500_000_020, test_from="2017-07-14T02:40:40Z"
    )
    dataset = prepare(log, tmp_path / "out", options=options)
    train, _ = dataset.train.flat()
    assert train.tolist() == [1, 2]  # u: a; w: d
    assert dataset.events.timestamps is not None
    users = dataset.user_ids
    valid = dataset.held_out("valid")
    actual = {
        users[u]: dataset.item_ids[t - 1] for u, t in zip(valid.users, valid.targets, strict=True)
    }
    assert actual == {"v": "a", "u": "c"}
    test = dataset.held_out("test")
    assert test.histories.lengths.tolist() == [2, 3]
    facts = dataset.manifest.statistics
    assert facts["valid_targets_without_history"] == 1
    assert facts["unused_events"] == 0
    assert facts["valid_from"] == "2017-07-14T02:40:20Z"


def test_temporal_by_fractions_never_trains_on_the_future(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "user_id": [i % 7 for i in range(200)],
            "item_id": [i % 11 for i in range(200)],
            "timestamp": [1_500_000_000 + (i * 37) % 200 for i in range(200)],
        }
    )
    options = PrepareOptions(split="temporal", valid_fraction=0.2, test_fraction=0.1)
    dataset = prepare(frame, tmp_path / "out", options=options)
    facts, events = dataset.manifest.statistics, dataset.events
    assert events.timestamps is not None
    positions = torch.cat(
        [torch.arange(a, b) for a, b in zip(events.offsets[:-1], events.train_end, strict=True)]
    )
    assert len(positions) == facts["train_events"] == 140
    assert int(events.timestamps[positions].max()) < 1_500_000_140
    for at, begin in ((events.valid, 140), (events.test, 180)):
        assert int(events.timestamps[at[at >= 0]].min()) >= 1_500_000_000 + begin
    kinds = {w["kind"]: w["count"] for w in dataset.manifest.warnings}
    assert kinds["unused-event"] == facts["unused_events"] > 0


def test_an_existing_folder_is_kept_unless_requested(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = prepare(log, out, options=ALL).fingerprint
    with pytest.raises(ArtefactError, match="already exists"):
        prepare(log, out, options=PrepareOptions(min_count=2))
    assert Dataset.load(out).fingerprint == first
    again = prepare(log, out, options=PrepareOptions(min_count=2), overwrite=True)
    assert again.fingerprint != first


@pytest.mark.parametrize("stage", ["write_tensors", "write_json"])
def test_an_interrupted_run_leaves_no_folder(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    before = set(tmp_path.iterdir())
    monkeypatch.setattr(store, stage, interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(log, tmp_path / "out", options=ALL)
    assert set(tmp_path.iterdir()) == before


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="given together"):
        PrepareOptions.build({"split": "temporal", "valid_from": 5})
    with pytest.raises(ConfigError, match="split='temporal'"):
        PrepareOptions.build({"valid_from": 5, "test_from": 6})
    with pytest.raises(ConfigError, match="must be below 1"):
        PrepareOptions.build({"valid_fraction": 0.5, "test_fraction": 0.5})
    with pytest.raises(ConfigError, match="min_counts: unknown key"):
        PrepareOptions.build({"min_counts": 5})


@pytest.mark.skipif(not (SHARED / "beauty").exists(), reason="the shared Beauty data are not here")
def test_beauty_has_the_published_counts(tmp_path: Path) -> None:
    folder = SHARED / "beauty"
    dataset = prepare(folder / "sequences.txt", tmp_path / "out", items=folder / "items.csv")
    assert (dataset.num_users, dataset.num_items, dataset.num_events) == (22_363, 12_101, 198_502)
    assert len(dataset.held_out("test").users) == 22_363
