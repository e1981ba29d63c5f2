"""Item vectors in a PostgreSQL table with the extension pgvector."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from seqloom.core.errors import ConfigError
from seqloom.pipelines.recommend.vectors.items import ID, ItemVectors
from seqloom.pipelines.recommend.vectors.target import Place, import_library

_WIDEST_INDEX = 2000
"""Widest vector that pgvector indexes."""
_CONSTRUCTION = 400
"""Candidates that HNSW keeps while it builds."""
_SEARCH = 400
"""`hnsw.ef_search`: candidates that HNSW keeps while it searches; pgvector's default is 40."""


class PgVector:
    """A table with `item_id` (primary key), `payload` (jsonb) and `vector`.

    It is written in one transaction, so readers see the former table until the new one is complete.
    """

    needs_url = takes_url = True

    def __init__(self, place: Place) -> None:
        self._psycopg = import_library("psycopg", "pgvector")
        self._place = place

    def write(self, items: ItemVectors) -> None:
        """See `VectorTarget`."""
        if self._place.hnsw and items.width > _WIDEST_INDEX:
            raise ConfigError(
                f"pgvector indexes at most {_WIDEST_INDEX} dimensions, and the vectors have {items.width}; "
                "choose the index exact"
            )
        try:
            with self._psycopg.connect(self._place.url) as connection:
                self._write(connection, items)
        except self._psycopg.Error as error:
            raise ConfigError(f"PostgreSQL refuses the export: {_first_line(error)}") from None

    def _write(self, connection: Any, items: ItemVectors) -> None:
        sql = self._psycopg.sql
        table = sql.Identifier(self._place.name)
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        (found,) = connection.execute(
            "SELECT to_regclass(%s)", [table.as_string(connection)]
        ).fetchone()
        if found is not None and not self._place.overwrite:
            raise ConfigError(
                f"the database has a table {self._place.name!r} already; choose another name or overwrite it"
            )
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        connection.execute(
            sql.SQL(
                "CREATE TABLE {} (item_id text PRIMARY KEY, payload jsonb NOT NULL, vector vector({}))"
            ).format(table, sql.Literal(items.width))
        )
        copy = sql.SQL("COPY {} (item_id, payload, vector) FROM STDIN").format(table)
        with connection.cursor().copy(copy) as stream:
            for row, vector in zip(items.payload_rows(), items.vectors, strict=True):
                payload = {name: value for name, value in row.items() if name != ID}
                stream.write_row((row[ID], json.dumps(payload), json.dumps(vector.tolist())))
        if self._place.hnsw:
            connection.execute(
                sql.SQL(
                    "CREATE INDEX ON {} USING hnsw (vector vector_ip_ops) WITH (ef_construction = {})"
                ).format(table, sql.Literal(_CONSTRUCTION))
            )

    def search(self, queries: np.ndarray, k: int) -> list[list[str]]:
        """See `VectorTarget`."""
        sql = self._psycopg.sql
        query = sql.SQL("SELECT item_id FROM {} ORDER BY vector <#> %s::vector LIMIT %s").format(
            sql.Identifier(self._place.name)
        )
        with self._psycopg.connect(self._place.url) as connection:
            if self._place.hnsw:
                connection.execute(f"SET LOCAL hnsw.ef_search = {max(_SEARCH, k)}")
            return [
                [row[0] for row in connection.execute(query, [json.dumps(state.tolist()), k])]
                for state in queries
            ]

    def how_to_search(self) -> str:
        """See `VectorTarget`."""
        before = f"SET hnsw.ef_search = {_SEARCH}; " if self._place.hnsw else ""
        return f'{before}SELECT item_id FROM "{self._place.name}" ORDER BY vector <#> %s::vector LIMIT 10'


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
