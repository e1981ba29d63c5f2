"""The data set that benchmarks run on."""

from __future__ import annotations

import os
from pathlib import Path

from seqloom.data.store import Dataset
from seqloom.pipelines.prepare.options import PrepareOptions
from seqloom.pipelines.prepare.prepare import prepare

SOURCE = "SEQLOOM_BENCH_DATA"
"""Names the folder with `sequences.txt` and `items.csv` (`python -m benchmarks --data` sets it)."""
BEAUTY = Path(__file__).resolve().parents[2] / "shared" / "data" / "beauty"


def source() -> Path:
    """The folder that the data set is made from."""
    return Path(os.environ.get(SOURCE, BEAUTY))


def benchmark_dataset(folder: Path) -> Dataset:
    """Amazon Beauty (2014, 5-core) prepared under `folder`; MovieLens-100K if it is absent."""
    given = source()
    exists = (given / "sequences.txt").exists()
    out = folder / (given.name if exists else "ml-100k")
    if out.exists():
        return Dataset.load(out)
    if exists:
        return prepare(given / "sequences.txt", out, items=given / "items.csv")
    from seqloom.hub.assets import resolve

    return prepare(resolve("ml-100k"), out, options=PrepareOptions(format="recbole"))


def sequence_file(dataset: Dataset, folder: Path) -> Path:
    """A line for each user with a test event: the user's number, then all items, oldest first."""
    out = folder / f"{dataset.path.name}-sequences.txt"
    if not out.exists():
        test = dataset.held_out("test")
        rows = test.histories
        lines = []
        for user, start, end, target in zip(
            test.users.tolist(),
            rows.starts.tolist(),
            rows.ends.tolist(),
            test.targets.tolist(),
            strict=True,
        ):
            items = [*rows.items[start:end].tolist(), target]
            lines.append(" ".join(map(str, [user, *items])))
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out
