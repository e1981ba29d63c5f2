"""The data set that benchmarks run on."""

from __future__ import annotations

from pathlib import Path

from seqloom.data.store import Dataset
from seqloom.runs.prepare import PrepareOptions, prepare

BEAUTY = Path(__file__).resolve().parents[2] / "shared" / "data" / "beauty"


def benchmark_dataset(folder: Path) -> Dataset:
    """Amazon Beauty (2014, 5-core) prepared under `folder`, made once; MovieLens-100K where it is absent."""
    beauty = (BEAUTY / "sequences.txt").exists()
    out = folder / ("beauty" if beauty else "ml-100k")
    if out.exists():
        return Dataset.load(out)
    if beauty:
        return prepare(BEAUTY / "sequences.txt", out, items=BEAUTY / "items.csv")
    from seqloom.core.assets import resolve

    return prepare(resolve("ml-100k"), out, options=PrepareOptions(format="recbole"))
