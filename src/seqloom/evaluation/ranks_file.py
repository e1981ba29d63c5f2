"""Files with the rank of each user's target, from which runs are compared without their models.

Parquet columns: `user_id`, `target` (string, the user's own ids), `rank`, `history_length`,
`training_length` and `target_count` (int64); `cold` (bool) if the data set has cold items; `repeat` (bool)
if some target is an item of the user's own history; `tied` (bool) if some target has the time of another item
of its user. The schema's metadata holds, under
`seqloom`, a JSON object: format, version, protocol, thresholds of the groups, and the SHA-256 of the columns.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from seqloom.core.damage import reading
from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.files import atomic_file
from seqloom.data.store import Dataset
from seqloom.evaluation.groups import (
    COLD_GROUPS,
    HISTORY_GROUPS,
    REPEAT_GROUPS,
    TIE_GROUPS,
    GroupThresholds,
    default_thresholds,
    group_members,
)
from seqloom.evaluation.protocol import RankingProtocol, stored_protocol

FORMAT = "seqloom-ranks"
FORMAT_VERSION = 1
_KEY = b"seqloom"
_STRINGS = ("user_id", "target")
_COLD = "cold"
_REPEAT = "repeat"
_TIED = "tied"
_NUMBERS = ("rank", "history_length", "training_length", "target_count")


@dataclass(frozen=True)
class RankTable:
    """Ranks of one run on one part. Row r of every column is about the same user."""

    protocol: RankingProtocol
    thresholds: GroupThresholds
    user_ids: pa.ChunkedArray
    """[R] string."""
    targets: pa.ChunkedArray
    """[R] string: the item id of the target."""
    ranks: Tensor
    """[R] int64, 1 is best; `metrics.MISSED` where masking removes the target."""
    history_lengths: Tensor
    """[R] int64, items before the target."""
    training_lengths: Tensor
    """[R] int64, the user's events in the training part."""
    target_counts: Tensor
    """[R] int64, the target's events in the training part."""
    cold: Tensor | None = None
    """[R] bool, whether the target is a cold item; None where the data set has none."""
    repeats: Tensor | None = None
    """[R] bool, whether the target is an item of the user's history; None where none is."""
    tied: Tensor | None = None
    """[R] bool, whether the target has the time of another item of its user; None where none has."""

    def __len__(self) -> int:
        return len(self.ranks)

    @property
    def members(self) -> dict[str, Tensor]:
        """The masks of the groups at this table's thresholds, each [R] bool.

        Cold items add two groups and are not tail items; new users add two groups, and so do repeated and
        tied targets.
        """
        masks = group_members(self.target_counts, self.training_lengths, self.thresholds)
        if self.cold is not None:
            masks["tail_item"] = masks["tail_item"] & ~self.cold
            masks |= dict(zip(COLD_GROUPS, (self.cold, ~self.cold), strict=True))
        new = self.history_lengths == 0
        if new.any():
            masks |= dict(zip(HISTORY_GROUPS, (new, ~new), strict=True))
        if self.repeats is not None:
            masks |= dict(zip(REPEAT_GROUPS, (self.repeats, ~self.repeats), strict=True))
        if self.tied is not None:
            masks |= dict(zip(TIE_GROUPS, (self.tied, ~self.tied), strict=True))
        return masks


def build_rank_table(
    dataset: Dataset,
    protocol: RankingProtocol,
    *,
    users: Tensor,
    targets: Tensor,
    ranks: Tensor,
    history_lengths: Tensor,
    repeats: Tensor | None = None,
    tied: Tensor | None = None,
    thresholds: GroupThresholds | None = None,
) -> RankTable:
    """Adds ids and training counts to ranks; thresholds default to the data set's 80/20 ones.

    Shapes: users (0..U-1), targets (1..N), ranks, history_lengths [R] int64, repeats and tied
    [R] bool.
    """
    users, targets = users.cpu(), targets.cpu()
    return RankTable(
        protocol=protocol,
        thresholds=thresholds or default_thresholds(dataset),
        user_ids=_strings(dataset.users, "user_id", users),
        targets=_strings(dataset.items, "item_id", targets - 1),
        ranks=ranks.cpu().long(),
        history_lengths=history_lengths.cpu().long(),
        training_lengths=dataset.train.lengths[users],
        target_counts=dataset.popularity[targets],
        cold=targets > dataset.warm.num_items if dataset.num_cold_items else None,
        repeats=_if_any(repeats),
        tied=_if_any(tied),
    )


def _if_any(mask: Tensor | None) -> Tensor | None:
    return None if mask is None or not bool(mask.any()) else mask.cpu()


def write_ranks(path: Path, table: RankTable) -> None:
    """Writes the table as one Parquet file, atomically."""
    about = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "protocol": table.protocol.model_dump(mode="json"),
        "thresholds": table.thresholds.model_dump(mode="json"),
    }
    numbers = (
        table.ranks,
        table.history_lengths,
        table.training_lengths,
        table.target_counts,
    )
    columns = [table.user_ids, table.targets, *(pa.array(column.numpy()) for column in numbers)]
    frame = pa.table(columns, names=[*_STRINGS, *_NUMBERS])
    for name, mask in ((_COLD, table.cold), (_REPEAT, table.repeats), (_TIED, table.tied)):
        if mask is not None:
            frame = frame.append_column(name, pa.array(mask.numpy()))
    about["columns"] = _digest(frame)
    with atomic_file(Path(path)) as work:
        pq.write_table(frame.replace_schema_metadata({_KEY: json.dumps(about)}), work)


def read_ranks(path: Path) -> RankTable:
    """Reads a file that `write_ranks` wrote.

    Raises:
        ArtefactError: the file is missing, damaged, not a rank file, or has another format version.
    """
    path = Path(path)
    with reading(path, "the ranks of an evaluation", "run `seqloom evaluate` on the run again"):
        frame = pq.read_table(path)
        frame.validate(full=True)
    protocol, thresholds, stored = _about(path, frame)
    columns = {}
    for name in (*_STRINGS, *_NUMBERS):
        column_type = pa.string() if name in _STRINGS else pa.int64()
        if name not in frame.column_names or frame.schema.field(name).type != column_type:
            raise ArtefactError(
                f"{path} has no column {name} of type {column_type}; evaluate again"
            )
        columns[name] = frame.column(name)
    if any(column.null_count for column in columns.values()):
        raise ArtefactError(f"{path} has rows without a value; evaluate the run again")
    numbers = [torch.from_numpy(columns[name].to_numpy().copy()) for name in _NUMBERS]
    if len(numbers[0]) and int(numbers[0].min()) < 1:
        raise ArtefactError(f"{path} has ranks below 1; evaluate the run again")
    if any(len(column) and int(column.min()) < 0 for column in numbers[1:]):
        raise ArtefactError(f"{path} has counts below 0; evaluate the run again")
    digest = _digest(frame)
    if stored not in ("", digest):
        raise ArtefactError(
            f"{path} was damaged or changed since it was written: its columns have SHA-256 {digest[:12]}, "
            f"its header says {stored[:12]}; evaluate the run again"
        )
    masks = (_mask(path, frame, name) for name in (_COLD, _REPEAT, _TIED))
    ids = (columns["user_id"], columns["target"])
    ranks, histories, training, counts = numbers
    return RankTable(protocol, thresholds, *ids, ranks, histories, training, counts, *masks)


def _mask(path: Path, frame: pa.Table, name: str) -> Tensor | None:
    """Reads an optional column of booleans. Shapes: -> [R] bool."""
    if name not in frame.column_names:
        return None
    column = frame.column(name)
    if column.type != pa.bool_() or column.null_count:
        raise ArtefactError(f"{path} has a column {name} of another type; evaluate the run again")
    return torch.from_numpy(column.to_numpy().copy())


def _digest(frame: pa.Table) -> str:
    """Computes the SHA-256 of the columns, independent of their chunks."""
    digest = hashlib.sha256()
    for name in frame.column_names:
        column = frame.column(name)
        digest.update(f"{name}:{column.type}:{len(column)}\n".encode())
        if pa.types.is_string(column.type):
            for value in column.to_pylist():
                data = value.encode()
                digest.update(len(data).to_bytes(8, "little") + data)
        else:
            digest.update(np.ascontiguousarray(column.to_numpy()).data)
    return digest.hexdigest()


def _about(path: Path, frame: pa.Table) -> tuple[RankingProtocol, GroupThresholds, str]:
    """Reads protocol, thresholds and the columns' digest (empty in a file of an older version)."""
    try:
        about: dict[str, Any] = json.loads((frame.schema.metadata or {})[_KEY])
        if about["format"] != FORMAT:
            raise KeyError("format")
        version = about["version"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ArtefactError(
            f"{path} is not a rank file of seqloom; evaluate the run again"
        ) from None
    if version != FORMAT_VERSION:
        raise ArtefactError(
            f"{path} has rank format {version}, this seqloom reads {FORMAT_VERSION}; "
            "evaluate the run again"
        )
    try:
        protocol = stored_protocol(about["protocol"])
        return protocol, GroupThresholds.build(about["thresholds"]), str(about.get("columns", ""))
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path} is damaged ({error}); evaluate the run again") from None


def _strings(table: pa.Table, column: str, rows: Tensor) -> pa.ChunkedArray:
    return table.column(column).take(pa.array(rows.numpy())).cast(pa.string())
