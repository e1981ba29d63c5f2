"""Item vectors as one Parquet file, which any database or notebook reads."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from seqloom.pipelines.recommend.vectors.items import ID, VECTOR, ItemVectors
from seqloom.pipelines.recommend.vectors.target import Place

FILE = "items.parquet"


class ParquetFile:
    """`items.parquet`: payload and vectors. A search reads the file and scores every row."""

    needs_url = takes_url = False

    def __init__(self, place: Place) -> None:
        self._file = place.folder / FILE

    def write(self, items: ItemVectors) -> None:
        """See `VectorTarget`."""
        pq.write_table(items.table(), self._file)

    def search(self, queries: np.ndarray, k: int) -> list[list[str]]:
        """See `VectorTarget`."""
        table = pq.read_table(self._file, columns=[ID, VECTOR])
        ids = np.array(table.column(ID).to_pylist(), dtype=object)
        column = table.column(VECTOR).combine_chunks()
        vectors = column.flatten().to_numpy().reshape(len(ids), -1)
        best = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]
        return [row.tolist() for row in ids[best]]

    def how_to_search(self) -> str:
        """See `VectorTarget`."""
        return f"pyarrow.parquet.read_table('{FILE}')"
