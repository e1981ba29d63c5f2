"""Item vectors in Qdrant: embedded, in a folder, or on a server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from seqloom.core.errors import ConfigError
from seqloom.pipelines.recommend.vectors.items import ID, ItemVectors
from seqloom.pipelines.recommend.vectors.target import Place, import_library

FOLDER = "qdrant"
KEY_VARIABLE = "QDRANT_API_KEY"
_AT_ONCE = 1000


class Qdrant:
    """A collection; a point's number is the item's number, its payload has `item_id`."""

    needs_url = False
    takes_url = True

    def __init__(self, place: Place) -> None:
        self._library = import_library("qdrant_client", "qdrant")
        self._place = place

    def write(self, items: ItemVectors) -> None:
        """See `VectorTarget`."""
        models, name = self._library.models, self._place.name
        with self._client() as client:
            if client.collection_exists(name):
                if not self._place.overwrite:
                    raise ConfigError(
                        f"Qdrant has a collection {name!r} already; choose another name or overwrite it"
                    )
                client.delete_collection(name)
            client.create_collection(
                name,
                vectors_config=models.VectorParams(size=items.width, distance=models.Distance.DOT),
            )
            rows = items.payload_rows()
            for start in range(0, len(rows), _AT_ONCE):
                part = slice(start, start + _AT_ONCE)
                client.upsert(
                    name,
                    models.Batch(
                        ids=list(range(start + 1, start + 1 + len(rows[part]))),
                        vectors=items.vectors[part].tolist(),
                        payloads=rows[part],
                    ),
                    wait=True,
                )

    def search(self, queries: np.ndarray, k: int) -> list[list[str]]:
        """See `VectorTarget`."""
        models = self._library.models
        requests = [
            models.QueryRequest(query=query, limit=k, with_payload=[ID])
            for query in queries.tolist()
        ]
        with self._client() as client:
            answers = client.query_batch_points(self._place.name, requests=requests)
        return [[point.payload[ID] for point in answer.points] for answer in answers]

    def how_to_search(self) -> str:
        """See `VectorTarget`."""
        where = f"url={self._place.url!r}" if self._place.url else f"path='{FOLDER}'"
        return f"QdrantClient({where}).query_points('{self._place.name}', query=state, limit=10)"

    @contextmanager
    def _client(self) -> Iterator[Any]:
        url, where = self._place.url, self._place.folder / FOLDER
        key = os.environ.get(KEY_VARIABLE)
        make = self._library.QdrantClient
        client = make(url=url, api_key=key) if url else make(path=str(where))
        try:
            yield client
        except (OSError, self._library.http.exceptions.ResponseHandlingException) as error:
            raise ConfigError(f"Qdrant cannot be reached: {error}") from None
        finally:
            client.close()
