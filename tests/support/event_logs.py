"""Event logs of several files."""

import itertools
from pathlib import Path

import numpy as np
import polars as pl

ROWS = 900


def make_log(seed: int, rows: int = ROWS) -> pl.DataFrame:
    """Draws users and items of very unequal weight, repeated events, equal times, ratings."""
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in (draw.pareto(0.7, rows) * 9).astype(int) % 150],
            "item_id": [f"i{n}" for n in (draw.pareto(0.9, rows) * 6).astype(int) % 90],
            "timestamp": draw.integers(1_500_000_000, 1_500_300_000, rows) // 700 * 700,
            "rating": draw.integers(1, 6, rows).astype(float),
        }
    )


def write_files(log: pl.DataFrame, folder: Path, count: int, kind: str = "parquet") -> Path:
    """Writes the log as files of unequal size."""
    folder.mkdir()
    edges = [
        0,
        *sorted(np.random.default_rng(1).integers(1, len(log), count - 1).tolist()),
        len(log),
    ]
    for number, (first, last) in enumerate(itertools.pairwise(edges)):
        if first == last:
            continue
        part = log[first:last]
        if kind == "parquet":
            part.write_parquet(folder / f"log-{number:02d}.parquet")
        elif kind == "csv":
            part.write_csv(folder / f"log-{number:02d}.csv")
        else:
            part.write_ndjson(folder / f"log-{number:02d}.jsonl")
    return folder
