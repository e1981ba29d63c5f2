"""The models that benchmarks train: the shape that all yardsticks have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqloom.data.store import Dataset
from seqloom.pipelines.train.train import TrainSummary, train

WIDTH, LAYERS, HEADS, DROPOUT, MAX_LEN, BATCH, SEED = 64, 2, 2, 0.5, 50, 128, 42


def encoder(kind: str = "sasrec") -> dict[str, Any]:
    """Keys `encoder.*`; GRU4Rec has one layer, as published."""
    shape = {"hidden_size": WIDTH, "dropout": DROPOUT, "max_len": MAX_LEN}
    if kind == "gru4rec":
        return {"kind": kind, **shape}
    return {"kind": kind, "num_layers": LAYERS, "num_heads": HEADS, **shape}


def train_epochs(
    dataset: Dataset, folder: Path, system: str, epochs: int, **config: Any
) -> TrainSummary:
    """Train `system` for so many epochs under `folder`, with validation after each."""
    keys = {"seed": SEED, "epochs": epochs, "patience": None, "batch_size": BATCH, **config}
    keys.setdefault("encoder", encoder())
    return train(dataset, system, config=keys, out=folder / "runs" / system, overwrite=True)


def softmax_flop(targets: int, num_items: int) -> int:
    """The three matrix products of the exact softmax: logits and both gradients."""
    return 6 * targets * num_items * WIDTH
