"""The program of each of several processes in tests: training jobs, whose losses the first one records.

    python joined.py JOBS.json

JOBS is a list of {"system", "out", "config", ...}; the environment is that which torchrun makes.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from seqloom.data.store import Dataset
from seqloom.distributed.dtensors import gather_tensor
from seqloom.distributed.process_group import open_processes
from seqloom.distributed.processes import Processes
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train.train import train
from seqloom.training.step import Stepper


def norm(module: Any) -> float:
    """Returns the norm of all gradients together, after clipping."""
    squares = [
        gather_tensor(p.grad).double().square().sum()
        for p in module.parameters()
        if p.requires_grad
    ]
    return float(sum(squares)) ** 0.5


def do(job: dict, processes: Processes) -> list[dict[str, float]]:
    """Trains and evaluates as `job` describes; returns the losses of every step."""
    losses: list[dict[str, float]] = []
    stepper: Any = Stepper
    step = stepper.__call__

    def noted(self: Any, batch: Any) -> dict[str, Tensor]:
        if processes.rank == job.get("dies"):
            if len(losses) == job["after"]:
                os.kill(os.getpid(), job.get("signal", signal.SIGKILL))
        elif job.get("stops") == len(losses):
            raise KeyboardInterrupt
        parts = step(self, batch)
        losses.append({name: float(value.detach()) for name, value in parts.items()})
        if job.get("gradients"):  # AdamW hides a gradient's scale from the losses
            losses[-1]["gradient"] = norm(self.phase.module)
        return parts

    stepper.__call__ = noted
    try:
        data = Dataset.load(job["data"])
        train(
            data,
            job["system"],
            out=job["out"],
            config=job["config"],
            resume=True,
            device="cpu",
            checkpoint_every_s=job.get("every_s", 0),
            processes=processes,
            fsdp=job.get("fsdp", False),
        )
        evaluate(job["out"], device="cpu", processes=processes)
    except KeyboardInterrupt:
        pass
    finally:
        stepper.__call__ = step
    return losses


if __name__ == "__main__":
    jobs = json.loads(Path(sys.argv[1]).read_text())
    with open_processes() as processes:
        for job in jobs:
            gc.collect()  # a language model that an earlier job has used is not spread
            losses = do(job, processes)
            if processes.rank == 0:
                Path(job["out"], "losses.json").write_text(json.dumps(losses))
