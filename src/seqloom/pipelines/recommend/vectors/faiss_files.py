"""Item vectors as a faiss index, with ids and payload in a Parquet file beside it."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from seqloom.pipelines.recommend.vectors.items import ID, ItemVectors
from seqloom.pipelines.recommend.vectors.target import Place, import_library

INDEX, PAYLOAD = "items.faiss", "items.parquet"
_NEIGHBOURS = 32
_CONSTRUCTION, _SEARCH = 400, 512
"""Candidates that HNSW keeps while it builds and while it searches."""


class FaissFiles:
    """`items.faiss`, whose number i is row i of `items.parquet`."""

    needs_url = takes_url = False

    def __init__(self, place: Place) -> None:
        self._faiss = import_library("faiss", "ann")
        self._folder, self._hnsw = place.folder, place.hnsw

    def write(self, items: ItemVectors) -> None:
        """See `VectorTarget`."""
        faiss = self._faiss
        if self._hnsw:
            index = faiss.IndexHNSWFlat(items.width, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction, index.hnsw.efSearch = _CONSTRUCTION, _SEARCH
        else:
            index = faiss.IndexFlatIP(items.width)
        index.add(items.vectors)
        faiss.write_index(index, str(self._folder / INDEX))
        pq.write_table(items.payload, self._folder / PAYLOAD)

    def search(self, queries: np.ndarray, k: int) -> list[list[str]]:
        """See `VectorTarget`."""
        index = self._faiss.read_index(str(self._folder / INDEX))
        ids = pq.read_table(self._folder / PAYLOAD, columns=[ID]).column(ID).to_pylist()
        _, rows = index.search(queries, k)
        return [[ids[row] for row in line if row >= 0] for line in rows.tolist()]

    def how_to_search(self) -> str:
        """See `VectorTarget`."""
        return f"faiss.read_index('{INDEX}').search(states, 10)  # rows of {PAYLOAD}"
