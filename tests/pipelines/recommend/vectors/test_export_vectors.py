"""Item vectors in every target: all of them are there, and its search finds the exact lists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import seqloom
from seqloom.core.errors import ArtefactError, ConfigError
from seqloom.core.progress import SilentProgress
from seqloom.pipelines.recommend.vectors.export_vectors import export_vectors
from seqloom.pipelines.recommend.vectors.items import ItemVectors
from seqloom.pipelines.recommend.vectors.target import Place, target_class
from support.servers import pgvector_server

LIBRARIES = {
    "faiss": "faiss",
    "qdrant": "qdrant_client",
    "lancedb": "lancedb",
    "pgvector": "psycopg",
}
TARGETS = ["parquet", *LIBRARIES]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with pgvector_server() as url:
        yield url


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The keywords of a target whose library is installed."""
    name = request.param
    if name in LIBRARIES:
        pytest.importorskip(LIBRARIES[name], reason=f"pip install 'seqloom[{name}]'")
    url = request.getfixturevalue("database") if name == "pgvector" else None
    return {"to": name, "url": url}


@pytest.mark.parametrize("index", ["exact", "hnsw"])
def test_the_search_finds_the_exact_lists(
    target: dict[str, Any], index: Any, run: Any, tmp_path: Path
) -> None:
    result = export_vectors(
        run, tmp_path / "out", **target, index=index, name=f"items_{index}", states=False
    )
    assert result.items == len(run.item_ids)
    assert result.recall == 1.0 if index == "exact" else result.recall >= 0.95
    assert result.queries == 60
    assert json.loads((tmp_path / "out/export.json").read_text())["recall"] == result.recall
    assert "seqloom@" not in str(result.url)


def test_a_search_later_gives_ids_in_order(
    target: dict[str, Any], run: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export_vectors(run, out, **target, name="later", states=False)
    history = torch.tensor([[1, 2, 3]])
    state = run.scorer.queries(history, torch.tensor([3])).detach()
    expected = [run.item_ids[i] for i in (state @ run.scorer.item_vectors.t())[0].topk(5).indices]
    place = Place(out, target["url"], "later", hnsw=False, overwrite=False)
    assert target_class(target["to"])(place).search(state.numpy(), 5) == [expected]


def test_nothing_is_replaced_without_asking(
    target: dict[str, Any], run: Any, tmp_path: Path
) -> None:
    options = {**target, "name": "twice", "states": False}
    export_vectors(run, tmp_path / "out", **options)
    with pytest.raises((ArtefactError, ConfigError), match="already"):
        export_vectors(run, tmp_path / ("other" if target["url"] else "out"), **options)
    again = export_vectors(run, tmp_path / "out", **options, overwrite=True)
    assert again.recall == 1.0


def test_payload_has_texts_and_popularity(run: Any, tmp_path: Path) -> None:
    export_vectors(run, tmp_path / "out", to="parquet", states=False)
    table = pq.read_table(tmp_path / "out/items.parquet")
    assert table.column("item_id").to_pylist() == run.item_ids
    assert table.column("training_events").to_pylist() == run.popularity.tolist()
    assert "title" in table.column_names
    vectors = np.stack(table.column("vector").to_numpy())
    np.testing.assert_array_equal(vectors, run.scorer.item_vectors.detach().numpy())


def test_states_are_what_the_run_computes(run: Any, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    result = export_vectors(run, tmp_path / "out", to="parquet")
    assert result.difference is not None
    assert result.difference < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "out/states.onnx"))
    items, lengths = np.array([[3, 5, 0], [1, 2, 4]]), np.array([2, 3])
    (states,) = session.run(None, {"items": items, "lengths": lengths})
    expected = run.scorer.queries(torch.from_numpy(items), torch.from_numpy(lengths))
    np.testing.assert_allclose(states, expected.detach().numpy(), atol=1e-5)


def test_a_poor_search_has_a_low_recall(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(self: object, queries: np.ndarray, k: int) -> list[list[str]]:
        return [run.item_ids[:1] * k for _ in queries]

    monkeypatch.setattr(target_class("parquet"), "search", search)
    warnings: list[str] = []
    progress = SilentProgress()
    monkeypatch.setattr(progress, "warn", warnings.append)
    result = export_vectors(run, tmp_path / "out", to="parquet", states=False, progress=progress)
    assert result.recall <= 0.1
    assert "index='exact' finds all" in warnings[0]


def test_what_cannot_be_exported_is_said(run: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pgvector is a server; give its address with url"):
        export_vectors(run, tmp_path / "out", to="pgvector")
    with pytest.raises(ConfigError, match="parquet is written into files"):
        export_vectors(run, tmp_path / "out", to="parquet", url="http://a")
    with pytest.raises(ConfigError, match="there is no target 'milvus'; allowed: faiss"):
        export_vectors(run, tmp_path / "out", to="milvus")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_server_that_is_not_there(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    url = "postgresql://u:secret@127.0.0.1:1/shop"
    with pytest.raises(ConfigError, match="PostgreSQL refuses the export") as error:
        export_vectors(run, tmp_path / "out", to="pgvector", url=url, states=False)
    assert "secret" not in str(error.value)


def test_a_system_without_vectors(shop: seqloom.Dataset, tmp_path: Path) -> None:
    seqloom.train(shop, "popularity", out=tmp_path / "run")
    with pytest.raises(ConfigError, match="popularity does not score items by a dot product"):
        export_vectors(tmp_path / "run", tmp_path / "out", to="parquet")


def test_empty_texts_are_left_out_of_payloads() -> None:
    import pyarrow as pa

    payload = pa.table({"item_id": ["a"], "title": [""], "brand": ["b"]})
    items = ItemVectors(np.zeros((1, 2), np.float32), payload)
    assert items.payload_rows() == [{"item_id": "a", "brand": "b"}]
