"""The item vectors of a run with their ids and payload, as a target receives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from seqloom.core.errors import ConfigError
from seqloom.core.protocols import VectorScorer
from seqloom.runs.ann_scorer import can_search
from seqloom.runs.trained_run import TrainedRun

ID, VECTOR, POPULARITY = "item_id", "vector", "training_events"


@dataclass(frozen=True)
class ItemVectors:
    """All items of a catalogue: row i is item number i + 1."""

    vectors: np.ndarray
    """[N, D] float32; the score of an item is its inner product with a user's state."""
    payload: pa.Table
    """[N] rows: `item_id`, the text columns, and `training_events` where known."""

    @property
    def ids(self) -> list[str]:
        """Entry i is the id of row i."""
        return self.payload.column(ID).to_pylist()

    @property
    def width(self) -> int:
        """D."""
        return int(self.vectors.shape[1])

    def table(self) -> pa.Table:
        """Returns the payload with a column `vector` (fixed-size lists of float32)."""
        flat = pa.array(self.vectors.reshape(-1), type=pa.float32())
        return self.payload.append_column(
            VECTOR, pa.FixedSizeListArray.from_arrays(flat, self.width)
        )

    def payload_rows(self) -> list[dict[str, Any]]:
        """Returns the payload as mappings, without empty texts."""
        return [
            {name: value for name, value in row.items() if value not in (None, "")}
            for row in self.payload.to_pylist()
        ]


def item_vectors(run: TrainedRun) -> ItemVectors:
    """Reads the item vectors of a run.

    Raises:
        ConfigError: the system does not score by a dot product, or a column of the catalogue is named
            `vector`.
    """
    scorer = run.scorer
    if not can_search(scorer):
        raise ConfigError(
            f"{run.system.name} does not score items by a dot product, so it has no item vectors to export; "
            "export a system over a sequence encoder, such as sasrec or llmesr"
        )
    assert isinstance(scorer, VectorScorer)
    payload = run.items
    if VECTOR in payload.column_names:
        raise ConfigError("the catalogue has a column 'vector'; rename it, and train again")
    if run.popularity is not None and POPULARITY not in payload.column_names:
        payload = payload.append_column(POPULARITY, pa.array(run.popularity.numpy(), pa.int64()))
    vectors = scorer.item_vectors.detach().float().cpu().numpy()
    return ItemVectors(np.ascontiguousarray(vectors), payload)
