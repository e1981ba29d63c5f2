"""Item vectors in LanceDB, which is embedded: a folder."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqloom.pipelines.recommend.vectors.items import ID, VECTOR, ItemVectors
from seqloom.pipelines.recommend.vectors.target import Place, import_library

FOLDER = "lancedb"


class Lance:
    """A table with the payload and a column `vector`."""

    needs_url = takes_url = False

    def __init__(self, place: Place) -> None:
        self._library = import_library("lancedb", "lancedb")
        self._place = place

    def write(self, items: ItemVectors) -> None:
        """See `VectorTarget`."""
        database = self._library.connect(str(self._place.folder / FOLDER))
        table = database.create_table(self._place.name, data=items.table())
        if self._place.hnsw:
            from lancedb.index import HnswSq

            table.create_index(VECTOR, config=HnswSq(distance_type="dot", num_partitions=1))

    def search(self, queries: np.ndarray, k: int) -> list[list[str]]:
        """See `VectorTarget`."""
        table = self._library.connect(str(self._place.folder / FOLDER)).open_table(self._place.name)
        return [self._best(table, query, k) for query in queries]

    def _best(self, table: Any, query: np.ndarray, k: int) -> list[str]:
        search = table.search(query, vector_column_name=VECTOR).distance_type("dot").limit(k)
        if self._place.hnsw:
            search = search.ef(16 * k).refine_factor(4)
        found: list[str] = search.select([ID, "_distance"]).to_arrow().column(ID).to_pylist()
        return found

    def how_to_search(self) -> str:
        """See `VectorTarget`."""
        return (
            f"lancedb.connect('{FOLDER}').open_table('{self._place.name}').search(state)"
            ".distance_type('dot').limit(10)"
        )
