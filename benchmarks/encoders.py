"""An epoch of the other systems, compared with one of SASRec in the same process."""

from __future__ import annotations

from pathlib import Path

from benchmarks.data import benchmark_dataset
from benchmarks.models import encoder, train_epochs
from benchmarks.result import Measurement, Result
from seqloom.core.device import keep_freed_memory
from seqloom.data.store import Dataset
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.text.store import text_names

EPOCHS, QUICK_EPOCHS = 4, 2
TEXT, TEXT_ENCODER = "benchmark", "hash:384"
ALLOWED = {"bert4rec": 2.0, "gru4rec": 2.0, "llmesr": 3.0}
"""Times the cost of SASRec that a system's epoch may have."""


def run(folder: Path, quick: bool = False) -> list[Result]:
    """Each system's epochs, the first left out, beside what SASRec's cost allows it."""
    keep_freed_memory()
    dataset = benchmark_dataset(folder)
    _text(dataset)
    epochs = QUICK_EPOCHS if quick else EPOCHS
    sasrec = train_epochs(dataset, folder, "sasrec", epochs).seconds_per_epoch[1:]
    results = []
    for system, times in ALLOWED.items():
        own = {"text": TEXT} if system == "llmesr" else {"encoder": encoder(system)}
        seconds = train_epochs(dataset, folder, system, epochs, **own).seconds_per_epoch[1:]
        bar = Measurement(f"{times:.0f} times SASRec's", "s", [times * each for each in sasrec])
        results.append(Result(f"Epoch of {system}", Measurement(system, "s", seconds), bar))
    return results


def _text(dataset: Dataset) -> None:
    """Hashed words: what an epoch costs does not depend on what the vectors say."""
    if TEXT not in text_names(dataset):
        embed(dataset, EmbedOptions(encoder=TEXT_ENCODER, users="mean", name=TEXT))
