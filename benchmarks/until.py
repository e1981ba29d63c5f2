"""Training time to an accuracy on the validation part, compared with the fastest public library.

Both train the same shape with exact softmax on the same histories: the library with the settings of the other
benchmarks, we with `FAST`, chosen on this validation part. Validation itself is not counted.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from benchmarks.data import benchmark_dataset, sequence_file
from benchmarks.models import BATCH, SEED, encoder, train_epochs
from benchmarks.result import Measurement, Result
from benchmarks.yardsticks import YARDSTICKS
from benchmarks.yardsticks.environment import YardstickError
from seqloom.core.device import keep_freed_memory

UNTIL = 0.060
"""Validation NDCG@10, seen items masked, that training is to reach."""
EPOCHS, MOST_EPOCHS = 8, 15
FAST = {"learning_rate": 0.003, "initial_std": 0.04}
FAST_ENCODER = {"dropout": 0.3, "output_dropout": 0.1}


def run(folder: Path) -> list[Result]:
    """Ours first, then the library in a process of its own."""
    keep_freed_memory()
    dataset = benchmark_dataset(folder)
    trained = train_epochs(
        dataset, folder, "sasrec", EPOCHS, encoder=encoder() | FAST_ENCODER, **FAST
    )
    log = (Path(trained.run) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in log]
    ours = _until([row["seconds"] for row in rows], [row["valid"]["ndcg@10"] for row in rows])
    fastest = YARDSTICKS[0]
    title = f"{fastest.title}: training until validation NDCG@10 of {UNTIL:.3f}"
    notes = {
        "library": "learning rate 0.001, dropout 0.5, which is what the other benchmarks train",
        "ours": f"batch {BATCH}, seed {SEED}, "
        + ", ".join(f"{key} {value}" for key, value in (FAST | FAST_ENCODER).items()),
        "threads": str(torch.get_num_threads()),
    }
    data = sequence_file(dataset, folder)
    try:
        report = fastest.measure(folder / "yardsticks", data, epochs=MOST_EPOCHS, until=UNTIL)
    except YardstickError as error:
        return [Result(title, ours, missing=str(error), notes=notes)]
    return [Result(title, ours, _until(report["epoch_seconds"], report["ndcg"]), notes=notes)]


def _until(seconds: list[float], accuracy: list[float]) -> Measurement:
    """Seconds up to the first epoch that reaches `UNTIL`; all of them if none does ("not reached")."""
    spent, epochs = 0.0, 0
    for each, value in zip(seconds, accuracy, strict=True):
        spent, epochs = spent + each, epochs + 1
        if value >= UNTIL:
            return Measurement(f"{epochs} epochs, {value:.4f}", "s", [spent])
    return Measurement(f"not reached: {max(accuracy):.4f} in {epochs} epochs", "s", [spent])
