"""Real logs in parts: MovieLens-100K and the Beauty sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from seqloom.core.errors import AssetError
from seqloom.hub.assets import resolve
from seqloom.jobs.local import LocalRunner
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.out_of_core import prepare_out_of_core
from seqloom.pipelines.prepare.prepare import prepare
from support.equal_datasets import assert_equal

SHARED = Path(__file__).resolve().parents[4].parent / "shared" / "data"


def refuse(*arguments: Any, **keywords: Any) -> None:
    raise AssetError("tests fetch nothing")


@pytest.fixture(scope="module")
def movielens() -> Path:
    try:
        return resolve("ml-100k", fetch_wheel=refuse)
    except AssetError as error:
        pytest.skip(f"MovieLens-100K is not in the cache: {error}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "values", [{}, {"split": "temporal"}, {"cold_items": 0.1, "min_rating": 3}]
)
def test_movielens(
    movielens: Path, values: dict[str, float] | dict[str, str], tmp_path: Path
) -> None:
    """The log in seven Parquet files, by two processes, against RecBole's own file in one go."""
    options = PrepareOptions.build(values)
    expected = prepare(movielens, tmp_path / "one", options=options)
    log = pl.read_csv(next(movielens.glob("*.inter")), separator="\t", infer_schema_length=0)
    log = log.rename({name: name.partition(":")[0] for name in log.columns})
    log = log.with_columns(pl.col("rating", "timestamp").cast(pl.Float64))
    (tmp_path / "log").mkdir()
    for number, part in enumerate(log.iter_slices(15_000)):
        part.write_parquet(tmp_path / "log" / f"{number}.parquet")
    items = next(movielens.glob("*.item"))
    with LocalRunner(2) as engine:
        made = prepare_out_of_core(
            engine, tmp_path / "log", tmp_path / "two", items=items, options=options, parts=4
        )
    assert_equal(made, expected)


@pytest.mark.slow
@pytest.mark.skipif(
    not (SHARED / "beauty").exists(), reason="the Beauty data is not beside the checkout"
)
def test_beauty(tmp_path: Path) -> None:
    """Sequences, without times: the order of the files and of their lines counts."""
    source = SHARED / "beauty"
    expected = prepare(source / "sequences.txt", tmp_path / "one", items=source / "items.csv")
    lines = (source / "sequences.txt").read_text().splitlines(keepends=True)
    (tmp_path / "log").mkdir()
    for number in range(5):
        cut = lines[number * len(lines) // 5 : (number + 1) * len(lines) // 5]
        (tmp_path / "log" / f"{number}.txt").write_text("".join(cut))
    with LocalRunner(2) as engine:
        made = prepare_out_of_core(
            engine, tmp_path / "log", tmp_path / "two", items=source / "items.csv", parts=4
        )
    assert_equal(made, expected)
