"""Training by several processes in tests: configurations, a folder that starts them, and the comparison."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.datasets import looping_dataset
from support.language_models import save_tiny_llama

WORKER = Path(__file__).with_name("joined_processes.py")
BATCH = 23


def sequence(kind: str = "sasrec", epochs: int = 2, **keys: Any) -> dict:
    """Returns a configuration without dropout, whose draws depend on the number of processes."""
    encoder = {
        "kind": kind,
        "hidden_size": 16,
        "max_len": 8,
        "dropout": 0.0,
        "output_dropout": 0.0,
    }
    start = {"epochs": epochs, "batch_size": BATCH, "patience": None, "encoder": encoder}
    return {**start, **keys}


def plug_in_config(llama: Path, **keys: Any) -> dict:
    return {
        "batch_size": BATCH,
        "max_len": 8,
        "dropout": 0.0,
        "warmup_steps": 5,
        "lora": {"dropout": 0.0},
        "llm": {"name": str(llama), "num_layers": 1},
        "ids": {"config": sequence(epochs=1)},
        "candidates": "ids",
        **keys,
    }


def without_dropout(config: dict) -> dict:
    models = ("generator", "recommender")
    return {**config, **{name: {**config[name], "dropout": 0.0} for name in models}}


class Folder:
    """A data set, a language model, and the processes that are started over them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = looping_dataset(path / "data")
        self.llama = save_tiny_llama(path / "llama")

    def start(self, jobs: dict[str, dict], name: str, size: int) -> list[subprocess.Popen[str]]:
        """`size` processes with the environment that torchrun gives them."""
        data = str(self.data.path)
        rows = [
            {"data": data, "out": str(self.out(name, job)), **reported}
            for job, reported in jobs.items()
        ]
        file = self.path / f"{name}-{size}.json"
        file.write_text(json.dumps(rows))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        actual = []
        for rank in range(size):
            own: dict[str, Any] = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size}
            own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environment = os.environ | {key: str(value) for key, value in own.items()}
            command = [sys.executable, str(WORKER), str(file)]
            actual.append(
                subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
            )
        return actual

    def run(self, jobs: dict[str, dict], name: str, size: int) -> None:
        for process in self.start(jobs, name, size):
            _, errors = process.communicate()
            assert process.returncode == 0, errors

    def out(self, name: str, job: str) -> Path:
        return self.path / name / job

    def read(self, name: str, job: str, file: str) -> Any:
        return json.loads((self.out(name, job) / file).read_text())


def assert_alike(folder: Folder, one: tuple[str, str], two: tuple[str, str]) -> None:
    """Compares the losses of every step to 5 digits, and all results of `evaluate`."""
    first, second = (folder.read(*run, "losses.json") for run in (one, two))
    assert len(first) == len(second)
    for step, (a, b) in enumerate(zip(first, second, strict=True)):
        assert a.keys() == b.keys()
        for part in a:
            assert math.isclose(a[part], b[part], rel_tol=1e-5, abs_tol=1e-7), (step, part, a, b)
    metrics = [folder.read(*run, "metrics.json") for run in (one, two)]
    for entry in ("users", "metrics", "groups", "thresholds"):
        assert metrics[0][entry] == metrics[1][entry]
