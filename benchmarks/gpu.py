"""All that needs an accelerator, in one call: `PYTHONPATH=src python benchmarks/gpu.py --dataset FOLDER`.

FOLDER is a prepared data set (`seqloom prepare`), so the machine needs neither polars nor an installed
seqloom: torch, numpy, pyarrow, pydantic, PyYAML and safetensors do. Measured: an epoch of SASRec with exact
softmax by `train` itself; the waits of the host for the device in a step; the encoder and the softmax's inner
part compiled or not; a step over a catalogue of a million items beside its matrix products alone.

`--device cpu --tiny` runs every line on a small synthetic data set, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from seqloom.data.batches import TrainingBatch
from seqloom.data.store import Dataset, Events, write_dataset
from seqloom.distributed.processes import ALONE
from seqloom.nn import losses
from seqloom.pipelines.train.fit_run import start_system
from seqloom.pipelines.train.train import train
from seqloom.systems.base import Sizes, TrainingData
from seqloom.systems.config import SASRecConfig
from seqloom.systems.sequence import RankingPhase
from seqloom.training.step import build_optimiser

SEED = 42
SHAPE = {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "dropout": 0.5, "max_len": 50}
BATCHES = (128, 512, 2048)
EPOCH_S, MILLION_TIMES = 0.5, 1.5
"""The bars: seconds of an epoch, and times the matrix products of a step over a million items."""


def main() -> None:
    """Measure all, print and write JSON; a part that fails says why and the others go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", type=Path, help="a prepared data set; not for --tiny")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    figures: dict[str, Any] = {"machine": machine(device), "bars": [EPOCH_S, MILLION_TIMES]}
    with tempfile.TemporaryDirectory() as folder:
        dataset = synthetic(Path(folder)) if options.tiny else Dataset.load(options.dataset)
        steps = 2 if options.tiny else 60
        parts: dict[str, Callable[[], Any]] = {
            "epochs": lambda: epochs(dataset, Path(folder), device, options.tiny),
            "waits": lambda: waits(dataset, device),
            "compiled": lambda: compiled(dataset, device, steps),
            "million": lambda: million(device, options.tiny),
        }
        failed = False
        for name, measure in parts.items():
            try:
                figures[name] = measure()
            except Exception as error:
                failed, figures[name] = True, f"failed: {type(error).__name__}: {error}"
            print(json.dumps({name: figures[name]}), flush=True)
            options.out.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    sys.exit(int(failed))


def machine(device: torch.device) -> dict[str, str]:
    """Device and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, "torch": torch.__version__, "python": sys.version.split()[0]}


def epochs(dataset: Dataset, folder: Path, device: torch.device, tiny: bool) -> dict[str, Any]:
    """Seconds of an epoch by batch size, the first one left out, and the accuracy after them."""
    figures = {}
    for batch_size in BATCHES:
        config = {"seed": SEED, "epochs": 2 if tiny else 8, "patience": None, "encoder": SHAPE}
        config["batch_size"] = batch_size
        out = folder / f"run-{batch_size}"
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        summary = train(dataset, "sasrec", config=config, out=out, device=str(device))
        memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
        figures[f"batch {batch_size}"] = {
            "seconds_per_epoch": statistics.median(summary.seconds_per_epoch[1:]),
            "all": summary.seconds_per_epoch,
            "device_memory_mb": memory / 2**20,
            "valid": summary.valid,
        }
    return figures


class Steps:
    """Training steps as the loop does them: autocast, loss, gradients, optimiser."""

    def __init__(self, dataset: Dataset, device: torch.device, batch_size: int = 512) -> None:
        config = SASRecConfig.build({"encoder": SHAPE, "batch_size": batch_size})
        data = TrainingData(dataset)
        sizes = Sizes(num_items=dataset.num_items)
        self.device = device
        system: Any = start_system("sasrec", config, sizes, data).to(device)
        self.system = system
        self.phase = RankingPhase(system, data)
        self.optimiser = build_optimiser(self.system, self.phase.optimisation, device)
        self.plan = self.phase.steps(0)
        self.system.train()

    def batch(self, number: int) -> TrainingBatch:
        """One on the device."""
        figures: TrainingBatch = self.plan[number % len(self.plan)].to(self.device)
        return figures

    def step(self, number: int) -> None:
        """Batch `number` of the epoch."""
        batch = self.batch(number)
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = ALONE.add_up(self.phase.loss(batch))["loss"]
        loss.backward()
        self.optimiser.step()


def waits(dataset: Dataset, device: torch.device) -> Any:
    """Where in five steps the host waited for the device; there should be none."""
    if device.type != "cuda":
        return "not measured: the device is no CUDA device"
    steps = Steps(dataset, device)
    steps.step(0)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for number in range(1, 6):
                steps.step(number)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [f"{each.filename}:{each.lineno}: {each.message}" for each in seen]


def compiled(dataset: Dataset, device: torch.device, steps: int) -> dict[str, float]:
    """Milliseconds of a step as it is, with the softmax's inner part compiled, with the encoder too."""
    figures = {"as it is": _step_ms(Steps(dataset, device), steps)}
    plain = losses._softmax_error
    losses._softmax_error = _compiled(plain, device)
    try:
        figures["softmax compiled"] = _step_ms(Steps(dataset, device), steps)
        both: Any = Steps(dataset, device)
        both.system.encoder.compile(dynamic=True, backend=_backend(device))
        figures["softmax and encoder compiled"] = _step_ms(both, steps)
    finally:
        losses._softmax_error = plain
    return figures


def _backend(device: torch.device) -> str:
    """On a CPU only what leads up to the compiler is tried."""
    return "inductor" if device.type == "cuda" else "eager"


def _compiled(function: Callable[..., Any], device: torch.device) -> Any:
    return torch.compile(function, dynamic=True, backend=_backend(device))


def _step_ms(steps: Steps, count: int) -> float:
    for number in range(count):  # also compiles for every shape
        steps.step(number)

    def epoch() -> None:
        for number in range(count):
            steps.step(number)

    return 1000 * _seconds(epoch, steps.device, 3) / count


def million(device: torch.device, tiny: bool) -> dict[str, Any]:
    """The exact softmax of a batch over a million items, with gradients, beside its three products."""
    items, targets = (2_000, 64) if tiny else (1_000_000, 4096)
    weight = torch.nn.Parameter(0.02 * torch.randn(items, 64, device=device))
    hidden = torch.randn(targets, 64, device=device, requires_grad=True)
    truth = torch.randint(items, (targets,), device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            losses.softmax_loss(hidden, weight, truth).backward()

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    w, h = weight.detach().to(dtype), hidden.detach().to(dtype)
    rows = losses.chunk_rows(items, device)

    def products() -> None:
        for part in h.split(rows):
            logits = part @ w.t()
            logits @ w
            logits.t() @ part

    figures: dict[str, Any] = {"items": items, "targets": targets, "chunk": rows}
    plain = losses._softmax_error
    for name in ("as it is", "softmax compiled"):
        if name != "as it is":
            losses._softmax_error = _compiled(plain, device)
        try:
            figures[f"{name}, ms"] = 1000 * _seconds(step, device, 5)
        finally:
            losses._softmax_error = plain
    figures["products, ms"] = 1000 * _seconds(products, device, 5)
    flop = 6 * items * targets * 64
    figures["products, TFLOP/s"] = flop / figures["products, ms"] / 1e9
    if device.type == "cuda":
        figures["memory, MiB"] = torch.cuda.max_memory_allocated(device) / 2**20
    return figures


def _seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median of `repeats` calls after one to warm up."""
    taken = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def synthetic(folder: Path, users: int = 60, items: int = 50) -> Dataset:
    """A small data set of random histories, written without polars."""
    draw = torch.Generator().manual_seed(SEED)
    lengths = torch.randint(4, 12, (users,), generator=draw)
    ends = lengths.cumsum(0)
    numbers = torch.randint(1, items + 1, (int(ends[-1]),), generator=draw).int()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), ends])
    return write_dataset(
        folder / "data",
        items=pa.table({"item_id": [f"i{number}" for number in range(1, items + 1)]}),
        users=pa.table({"user_id": [f"u{number}" for number in range(users)]}),
        events=Events(numbers, offsets, train_end=ends - 2, valid=ends - 2, test=ends - 1),
        sources=[],
        options={"split": "leave-one-out"},
        statistics={"items": items, "users": users, "events": len(numbers)},
        warnings=[],
    )


if __name__ == "__main__":
    main()
