"""Fifty steps of SASRec by one process and by two: differences of the losses, and the overhead."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from benchmarks.data import benchmark_dataset
from benchmarks.result import Measurement, Result

STEPS, WARM, BATCH = 50, 5, 128
ENCODER = {"hidden_size": 64, "dropout": 0.0, "output_dropout": 0.0}


class _EnoughError(Exception):
    """The steps that are measured are done."""


def run(folder: Path) -> list[Result]:
    """Start the processes, one thread each, and compare their records."""
    dataset = benchmark_dataset(folder)
    (one,) = _start(dataset.path, 1)
    both = _start(dataset.path, 2)
    pairs = zip(one["losses"], both[0]["losses"], strict=True)
    apart = [abs(a - b) / abs(a) for a, b in pairs]
    together = [sum(times) for times in zip(*(part["processor"] for part in both), strict=True)]
    unit = "ms"
    return [
        Result(
            "Largest relative difference of the losses of 50 steps, 2 processes against 1",
            Measurement("measured", "", [max(apart)]),
            Measurement("bar: 5 digits", "", [1e-5]),
            notes={
                "loss of the first and the last step": ", ".join(
                    f"{name} {part['losses'][0]:.6f} and {part['losses'][-1]:.6f}"
                    for name, part in (("1 process", one), ("2 processes", both[0]))
                ),
                "step": f"SASRec, {BATCH} histories, {dataset.num_items:,} items; one thread a process",
            },
        ),
        Result(
            "Processor time of a step",
            Measurement("both of 2 processes together", unit, _ms(together)),
            Measurement("1 process", unit, _ms(one["processor"])),
        ),
        Result(
            "Processor time of a step in one process",
            Measurement("larger of 2", unit, _ms(max(p) for p in _by_step(both))),
            Measurement("1 process", unit, _ms(one["processor"])),
        ),
    ]


def _by_step(parts: list[dict]) -> list[tuple[float, ...]]:
    return list(zip(*(part["processor"] for part in parts), strict=True))


def _ms(seconds: Generator[Any, None, None] | list[Any]) -> list[float]:
    return [1e3 * value for value in seconds][WARM:]


def _start(data: Path, size: int) -> list[dict]:
    """The record of each process: the losses and the seconds of processor time of each step."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        started = []
        for rank in range(size):
            own: dict[str, Any] = {
                "RANK": rank,
                "LOCAL_RANK": rank,
                "WORLD_SIZE": size,
                "OMP_NUM_THREADS": 1,
            }
            own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            command = [sys.executable, "-m", "benchmarks.processes", str(data), scratch]
            environment = os.environ | {key: str(value) for key, value in own.items()}
            started.append(subprocess.Popen(command, env=environment))
        codes = [process.wait() for process in started]
        if any(codes):
            raise RuntimeError("a process has failed; see above")
        return [json.loads(Path(scratch, f"{rank}.json").read_text()) for rank in range(size)]


def _work(data: str, scratch: str) -> None:
    from seqloom.distributed.process_group import open_processes
    from seqloom.pipelines.train.train import train
    from seqloom.training.loop import Trainer

    losses: list[float] = []
    processor: list[float] = []
    steps: Any = Trainer
    step = steps._step

    def measured(self: Any, *arguments: Any) -> Any:
        started = time.process_time()
        parts = step(self, *arguments)
        losses.append(float(parts["loss"].detach()))
        processor.append(time.process_time() - started)
        if len(losses) == STEPS:
            raise _EnoughError
        return parts

    steps._step = measured
    config = {"batch_size": BATCH, "encoder": ENCODER}
    with open_processes() as processes:
        try:
            out = Path(scratch, "run")
            train(data, "sasrec", out=out, config=config, device="cpu", processes=processes)
        except _EnoughError:
            pass
        record = {"losses": losses, "processor": processor}
        Path(scratch, f"{processes.rank}.json").write_text(json.dumps(record))


if __name__ == "__main__":
    _work(*sys.argv[1:])
