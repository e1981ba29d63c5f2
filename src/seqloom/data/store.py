"""The prepared data set on disk: written by `prepare`, memory-mapped by all later stages.

manifest.json        format version, source hashes, options, statistics, warnings, fingerprint, and the
                     hash of each file below, which is checked when the file is opened
items.parquet        row i is item number i + 1: `item_id`, then the item's text columns
users.parquet        row u is user number u: `user_id`
events.safetensors   items int32 [events], offsets int64 [users + 1], timestamps int64 [events]
                     when known, joined bool [events] where times have fractions of seconds, and the
                     split: train_end, valid, test int64 [users]
text/<name>/         embeddings of items and users (see `seqloom.text.store`)

A data set in parts has folders `users/` and `events/` instead of the two files (see
`seqloom.data.parts`); `Dataset` hides the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError
from seqloom.core.files import atomic_folder, read_json, write_json
from seqloom.core.records import FileRecord, check_file, record_files
from seqloom.core.tabular import Tabular, facts_html
from seqloom.core.tensors import write_tensors
from seqloom.data.events import Events, check_events, without_items
from seqloom.data.fingerprints import fingerprint, training_hash
from seqloom.data.parts import REMEDY, PartRecord, read_events, read_parts, read_users
from seqloom.data.repeats import RepeatTally, masks_seen
from seqloom.data.sequences import Sequences
from seqloom.data.tables import read_id_table
from seqloom.data.tie_keys import tie_keys
from seqloom.data.ties import tied_events

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

FORMAT_VERSION = 1
PARTS_VERSION = 2
"""Format version of a data set in parts, which older versions of seqloom do not read."""
Part = Literal["valid", "test"]
_ITEMS, _USERS, _EVENTS = "items.parquet", "users.parquet", "events.safetensors"


class Manifest(Config):
    """The manifest of a prepared data set."""

    format: Literal["seqloom-dataset"] = "seqloom-dataset"
    version: int = FORMAT_VERSION
    seqloom: str
    """Version of seqloom that wrote the folder."""
    sources: list[dict[str, Any]]
    """Each source file: path, bytes, SHA-256 (for a frame in memory: type and shape)."""
    options: dict[str, Any]
    """The resolved options of `prepare`."""
    statistics: dict[str, Any]
    """Counts before and after filtering, lengths, density."""
    warnings: list[dict[str, Any]]
    """Warnings about the input: kind, count, examples."""
    fingerprint: str
    """SHA-256 over ids, events and split: equal data, equal fingerprint."""
    training: str = ""
    """SHA-256 of the training part; empty in data sets of older versions of seqloom."""
    parts: list[PartRecord] = Field(default_factory=list)
    """The parts in the order of their users; empty where one file holds all events."""
    files: dict[str, FileRecord] = Field(default_factory=dict)
    """Hashes of the other files by relative path; empty in data sets of older versions of seqloom."""


@dataclass(frozen=True)
class HeldOut:
    """The ranking task of one part: the history and the target of each user with a held-out event."""

    users: Tensor
    """[rows] int64, user numbers, ascending."""
    histories: Sequences
    """All events of the user before the target."""
    targets: Tensor
    """[rows] int64, item numbers 1..N."""
    tied: Tensor | None = None
    """[rows] bool, whether the target has the time of another item of its user; None without times."""

    @cached_property
    def repeats(self) -> Tensor:
        """[rows] bool, whether the target is in the user's history."""
        return self.histories.holds(self.targets)

    def select(self, rows: Tensor) -> HeldOut:
        """Selects rows, in the given order. Shapes: rows [B] int64."""
        return HeldOut(
            self.users[rows],
            self.histories.select(rows),
            self.targets[rows],
            None if self.tied is None else self.tied[rows],
        )


class Dataset(Tabular):
    """A prepared data set: arrays are mapped from disk, tables are read on first use."""

    def __init__(
        self, path: Path, manifest: Manifest, events: Events, num_items: int | None = None
    ) -> None:
        """`num_items` restricts the data set to its first items; None means all."""
        self.path = path
        self.manifest = manifest
        self.events = events
        self.num_items = manifest.statistics["items"] if num_items is None else num_items
        """N: items are numbered 1..N, 0 is padding."""

    @classmethod
    def load(cls, path: str | Path) -> Dataset:
        """Opens the folder at `path`.

        Raises:
            ArtefactError: the folder is missing, incomplete, damaged, changed or of another format version.
        """
        path = Path(path)
        raw = read_json(path / "manifest.json", "prepared data set")
        if not isinstance(raw, dict) or raw.get("format") != "seqloom-dataset":
            raise ArtefactError(
                f"{path} is not a prepared data set; make one with `seqloom prepare`"
            )
        if raw.get("version") not in (FORMAT_VERSION, PARTS_VERSION):
            raise ArtefactError(
                f"{path} has data set format {raw.get('version')}, but this version of seqloom reads "
                f"{FORMAT_VERSION} and {PARTS_VERSION}; run `seqloom prepare` again"
            )
        with reading(path / "manifest.json", "the manifest of a data set", REMEDY):
            manifest = Manifest.build(raw)
            num_items = int(manifest.statistics["items"])
        if manifest.parts:
            events = read_parts(path, manifest.parts, manifest.files)
        else:
            check_file(path, _EVENTS, manifest.files, REMEDY)
            events = read_events(path / _EVENTS)
        check_events(events, num_items, path, REMEDY)
        return cls(path, manifest, events)

    def headline(self) -> str:
        """Returns what the data set is, on one line."""
        return f"Dataset {self.path.resolve().name}"

    def facts(self) -> dict[str, Any]:
        """Returns the sizes, the split and the dates of the data set."""
        statistics = self.manifest.statistics
        dates = {"dates": f"{statistics['first_date']} to {statistics['last_date']}"}
        return {
            "users": self.num_users,
            "items": self.num_items,
            "events": self.num_events,
            "events per user": self.num_events / max(self.num_users, 1),
            "split": self.split,
            **(dates if "first_date" in statistics else {}),
            "items with text": self.num_items - statistics.get("items_without_text", 0),
        }

    def as_rows(self) -> list[dict[str, Any]]:
        """Returns the events as rows; see `to_polars`."""
        return self.to_polars().to_dicts()

    def to_polars(self) -> pl.DataFrame:
        """Returns the events as a polars frame, in the order of users and times.

        Columns: `user_id`, `item_id`, `timestamp` (seconds since 1970, where the log has times) and `part`
        (`train`, `valid`, `test`, or `unused` for events that no part uses).
        """
        from seqloom.data.event_frame import event_frame

        return event_frame(self.events, self.user_ids, self.item_ids)

    def to_pandas(self) -> pd.DataFrame:
        """Returns the events as a pandas frame; see `to_polars`."""
        return self.to_polars().to_pandas()

    def _repr_html_(self) -> str:
        return facts_html(self.headline(), self.facts())

    @property
    def fingerprint(self) -> str:
        """SHA-256 over ids, events and split."""
        return self.manifest.fingerprint

    @property
    def num_users(self) -> int:
        return len(self.events.offsets) - 1

    @property
    def num_cold_items(self) -> int:
        """Number of items without training events; they have the last numbers."""
        warm = self.manifest.statistics["items"] - self.manifest.statistics.get("cold_items", 0)
        return max(0, self.num_items - int(warm))

    @property
    def has_cold_users(self) -> bool:
        """Whether validation and test users have no training part."""
        return "cold_test_users" in self.manifest.statistics

    @property
    def split(self) -> str:
        """The split in a few words, with its cold items."""
        words = str(self.manifest.options.get("split", "leave-one-out"))
        if self.has_cold_users:
            words = "last event of users who are not in training"
        cold = self.manifest.statistics.get("cold_items", 0)
        return f"{words}, {cold:,} cold items" if cold else words

    @cached_property
    def warm(self) -> Dataset:
        """The data set without its cold items; itself where it has none."""
        if not self.num_cold_items:
            return self
        first_cold = self.num_items - self.num_cold_items + 1
        return Dataset(
            self.path,
            self.manifest,
            without_items(self.events, self.events.items >= first_cold),
            first_cold - 1,
        )

    @property
    def num_events(self) -> int:
        return len(self.events.items)

    @cached_property
    def items(self) -> pa.Table:
        """The items table: row i describes item number i + 1 with `item_id` and text columns, all strings.

        Raises:
            ArtefactError: the file is missing, damaged or changed.
        """
        rows, files = self.manifest.statistics["items"], self.manifest.files
        return read_id_table(self.path, _ITEMS, "item_id", rows, files, REMEDY).slice(
            0, self.num_items
        )

    @cached_property
    def users(self) -> pa.Table:
        """The users table: row u describes user number u with `user_id` (string).

        Raises:
            ArtefactError: the file is missing, damaged or changed.
        """
        files = self.manifest.files
        if self.manifest.parts:
            return read_users(self.path, self.manifest.parts, files)
        return read_id_table(self.path, _USERS, "user_id", self.num_users, files, REMEDY)

    @cached_property
    def item_ids(self) -> list[str]:
        """The item ids of the log; entry i belongs to item number i + 1."""
        return self.items.column("item_id").to_pylist()

    @cached_property
    def tie_keys(self) -> Tensor:
        """[N] int64, the keys that break ties between items; see `data.tie_keys`."""
        return tie_keys(self.item_ids)

    @cached_property
    def user_ids(self) -> list[str]:
        """The user ids of the log; entry u belongs to user number u."""
        return self.users.column("user_id").to_pylist()

    @cached_property
    def item_numbers(self) -> dict[str, int]:
        """Maps item ids to item numbers 1..N."""
        return {item_id: i for i, item_id in enumerate(self.item_ids, start=1)}

    @cached_property
    def user_numbers(self) -> dict[str, int]:
        """Maps user ids to user numbers 0..U-1."""
        return {user_id: u for u, user_id in enumerate(self.user_ids)}

    @property
    def train(self) -> Sequences:
        """The training part of every user."""
        return Sequences(self.events.items, self.events.offsets[:-1], self.events.train_end)

    @cached_property
    def training_hash(self) -> str:
        """SHA-256 of the training part, the only input of artefacts made from training events."""
        return training_hash([self.train])

    def held_out(self, part: Part) -> HeldOut:
        """Returns the users with a held-out event in `part`, the history before it and the target item."""
        at = self.events.valid if part == "valid" else self.events.test
        users = torch.nonzero(at >= 0).flatten()
        at = at[users]
        histories = Sequences(self.events.items, self.events.offsets[users], at)
        tied = None if self.tied is None else self.tied[at]
        return HeldOut(users, histories, self.events.items[at].long(), tied)

    @cached_property
    def tied(self) -> Tensor | None:
        """[events] bool, whether another item of the user has the event's time; None without times."""
        joins = self.events.joins
        if joins is None:
            return None
        return torch.from_numpy(tied_events(joins.numpy(), self.events.items.numpy()))

    @cached_property
    def repeats(self) -> RepeatTally:
        """Counts of the events that repeat an item of their user's history."""
        events = self.events
        arrays = (events.items, events.offsets, events.train_end, events.valid, events.test)
        return RepeatTally.of(*(array.numpy() for array in arrays))

    @cached_property
    def masks_seen(self) -> bool:
        """Whether runs leave seen items out of ranking and lists, unless a call says otherwise.

        Data sets of older versions of seqloom have no decision; the rule `auto` decides.
        """
        stated = self.manifest.statistics.get("mask_seen")
        return masks_seen("auto", self.repeat_share) if stated is None else bool(stated)

    @property
    def repeat_share(self) -> float:
        """Share of the training events with a history that repeat an item of it."""
        stated = self.manifest.statistics.get("repeats")
        return self.repeats.share("train") if stated is None else float(stated["train"]["share"])

    def deciding(self, masked: bool) -> Dataset:
        """Returns the data set with this decision on seen items (`masks_seen`)."""
        statistics = {**self.manifest.statistics, "mask_seen": masked}
        manifest = self.manifest.model_copy(update={"statistics": statistics})
        return Dataset(self.path, manifest, self.events, self.num_items)

    @cached_property
    def popularity(self) -> Tensor:
        """[N + 1] int64: training events of each item; entry 0 is 0. Held-out events do not count."""
        counts = torch.zeros(self.num_items + 1, dtype=torch.int64)
        for part in self.train.blocks():
            counts += torch.bincount(part.flat()[1], minlength=len(counts))
        return counts


def write_dataset_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest of a data set with its own checksum."""
    write_json(folder / "manifest.json", manifest.model_dump(mode="json"), sealed=True)


def write_dataset(
    path: Path,
    *,
    items: pa.Table,
    users: pa.Table,
    events: Events,
    sources: list[dict[str, Any]],
    options: dict[str, Any],
    statistics: dict[str, Any],
    warnings: list[dict[str, Any]],
    overwrite: bool = False,
) -> Dataset:
    """Writes a prepared data set; the folder appears complete or not at all.

    `statistics["items"]` must be the number of rows of `items`.
    """
    from seqloom._version import __version__

    if statistics.get("items") != items.num_rows:
        raise ValueError("statistics['items'] must equal the number of item rows")
    manifest = Manifest(
        seqloom=__version__,
        sources=sources,
        options=options,
        statistics=statistics,
        warnings=warnings,
        fingerprint=fingerprint(
            items.column("item_id").to_pylist(),
            users.column("user_id").to_pylist(),
            events,
            statistics.get("cold_items", 0),
        ),
        training=training_hash([Sequences(events.items, events.offsets[:-1], events.train_end)]),
    )
    with atomic_folder(path, overwrite=overwrite) as work:
        pq.write_table(items, work / _ITEMS)
        pq.write_table(users, work / _USERS)
        write_tensors(work / _EVENTS, events.tensors())
        files = record_files(work, (_ITEMS, _USERS, _EVENTS))
        write_dataset_manifest(work, manifest.model_copy(update={"files": files}))
    return Dataset.load(path)
