"""A prepared data set in parts: each part holds all events of a range of user numbers.

users/part-00000.parquet        `user_id`, in the order of the users' numbers
events/part-00000.safetensors   the event arrays of `data.events`, positions counted in the part
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from torch import Tensor

from seqloom.core.config import Config
from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError
from seqloom.core.files import atomic_file
from seqloom.core.records import FileRecord, check_file
from seqloom.core.tensors import write_tensors
from seqloom.data.events import Events
from seqloom.data.fingerprints import fingerprint_of, training_hash
from seqloom.data.sequences import Sequences
from seqloom.data.tables import read_id_table

REMEDY = "run `seqloom prepare` again"
"""What to do about a damaged data set."""


class PartRecord(Config):
    """The manifest's record of a part."""

    users: int
    """Number of users."""
    events: int
    """Number of events."""


def users_file(folder: Path, index: int) -> Path:
    """Returns the path of a part's users."""
    return folder / "users" / f"part-{index:05d}.parquet"


def events_file(folder: Path, index: int) -> Path:
    """Returns the path of a part's events."""
    return folder / "events" / f"part-{index:05d}.safetensors"


def write_part(folder: Path, index: int, users: pa.Table, events: Events) -> PartRecord:
    """Writes one part; each of its files is complete or absent."""
    with atomic_file(users_file(folder, index)) as work:
        pq.write_table(users, work)
    with atomic_file(events_file(folder, index)) as work:
        write_tensors(work, events.tensors())
    return PartRecord(users=users.num_rows, events=len(events.items))


def read_events(file: Path) -> Events:
    """Maps the event arrays of one file from disk.

    Raises:
        ArtefactError: the file is missing or damaged.
    """
    with (
        reading(file, "the events of a data set", REMEDY),
        safe_open(file, framework="pt") as handle,
    ):
        return Events(**{name: handle.get_tensor(name) for name in handle.keys()})  # noqa: SIM118


def part_files(folder: Path, count: int) -> list[str]:
    """Lists all files of `count` parts, as paths relative to `folder`."""
    files = [place(folder, index) for index in range(count) for place in (users_file, events_file)]
    return [file.relative_to(folder).as_posix() for file in files]


def read_parts(
    folder: Path, records: Sequence[PartRecord], files: Mapping[str, FileRecord]
) -> Events:
    """Reads all parts into memory as one, with positions counted over all of them.

    Raises:
        ArtefactError: a part is missing, damaged, changed or of another size than its record says.
    """
    for index in range(len(records)):
        name = events_file(folder, index).relative_to(folder).as_posix()
        check_file(folder, name, files, REMEDY)
    # A part without fractions of seconds stores no `joined`, though another one does.
    joined = any(
        read_events(events_file(folder, index)).joined is not None for index in range(len(records))
    )
    arrays = [piece.tensors() for piece in _moved(folder, records, joined=joined)]
    return Events(**{name: torch.cat([part[name] for part in arrays]) for name in arrays[0]})


def read_users(
    folder: Path, records: Sequence[PartRecord], files: Mapping[str, FileRecord]
) -> pa.Table:
    """Reads the users of all parts.

    Raises:
        ArtefactError: a part is missing, damaged, changed or of another size than its record says.
    """
    return pa.concat_tables(_users(folder, records, files))


def fingerprint_parts(
    item_ids: Sequence[str], folder: Path, records: Sequence[PartRecord], num_cold: int
) -> str:
    """Computes the fingerprint of the data set with one part in memory at a time."""

    def chunks(name: str) -> Iterator[Tensor]:
        for piece in _moved(folder, records):
            yield piece.tensors()[name]

    user_ids = (table.column("user_id").to_pylist() for table in _users(folder, records, {}))
    names = list(read_events(events_file(folder, 0)).tensors())
    users = sum(record.users for record in records)
    return fingerprint_of(item_ids, users, user_ids, names, chunks, num_cold)


def training_parts(folder: Path, records: Sequence[PartRecord]) -> str:
    """Computes the hash of the training part."""
    parts = (read_events(events_file(folder, index)) for index in range(len(records)))
    return training_hash(Sequences(e.items, e.offsets[:-1], e.train_end) for e in parts)


def _users(
    folder: Path, records: Sequence[PartRecord], files: Mapping[str, FileRecord]
) -> Iterable[pa.Table]:
    for index, record in enumerate(records):
        name = users_file(folder, index).relative_to(folder).as_posix()
        yield read_id_table(folder, name, "user_id", record.users, files, REMEDY)


def _moved(
    folder: Path, records: Sequence[PartRecord], *, joined: bool = False
) -> Iterator[Events]:
    """Yields each part with positions counted from the first event of the data set."""
    before = 0
    for index, record in enumerate(records):
        file = events_file(folder, index)
        part = read_events(file)
        if (len(part.items), len(part.offsets)) != (record.events, record.users + 1):
            raise ArtefactError(
                f"{file} holds {len(part.offsets) - 1} users and {len(part.items)} events, but the "
                f"manifest says {record.users} and {record.events}; {REMEDY}"
            )
        yield Events(
            items=part.items,
            offsets=part.offsets[int(index > 0) :] + before,
            train_end=part.train_end + before,
            valid=torch.where(part.valid >= 0, part.valid + before, -1),
            test=torch.where(part.test >= 0, part.test + before, -1),
            timestamps=part.timestamps,
            joined=part.joins if joined else None,
        )
        before += record.events
