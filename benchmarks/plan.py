"""Predictions of `seqloom plan` compared with `seqloom train`: time, memory, disk."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.data import benchmark_dataset
from benchmarks.result import Measurement, Result

EPOCHS = 2
TEXT = "plan"
LAYERS = 2
"""Of the language model."""
_MAIN = "from seqloom.cli.main import main; main()"


def run(folder: Path) -> list[Result]:
    """One process for each plan and each training, so that each has a peak of its own."""
    from seqloom.pipelines.embed.embed import embed
    from seqloom.pipelines.embed.options import EmbedOptions
    from seqloom.text.store import text_names

    dataset = benchmark_dataset(folder)
    if TEXT not in text_names(dataset):
        embed(dataset, EmbedOptions(encoder="hash:384", users="mean", name=TEXT))
    keys: dict[str, list[str]] = {
        "sasrec": [],
        "gru4rec": [],
        "bert4rec": [],
        "llmesr": [f"text={TEXT}"],
        "e4srec": [
            f"ids.run={_run_of('sasrec', folder)}",
            f"llm.num_layers={LAYERS}",
            "candidates=ids",
        ],
    }
    return [
        each for system in keys for each in _compare(dataset.path, system, keys[system], folder)
    ]


def _run_of(system: str, folder: Path) -> Path:
    return folder / "runs" / f"plan-{system}"


def _compare(dataset: Path, system: str, keys: list[str], folder: Path) -> list[Result]:
    given = [part for key in keys for part in ("--set", key)]
    out = _run_of(system, folder)
    shutil.rmtree(out, ignore_errors=True)
    estimate = _command("plan", str(dataset), "--system", system, *given)
    trained = _command(
        *(
            "train",
            str(dataset),
            "--system",
            system,
            "--out",
            str(out),
            "--set",
            f"epochs={EPOCHS}",
        ),
        *given,
    )
    disk = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 2**20
    return [
        _beside(
            f"{system}: epoch", "s", estimate["seconds_per_epoch"], trained["seconds_per_epoch"]
        ),
        _beside(
            f"{system}: memory", "MiB", estimate["memory"]["peak_mb"], [trained["peak_rss_mb"]]
        ),
        _beside(f"{system}: disk", "MiB", estimate["disk"]["run_mb"], [disk]),
    ]


def _beside(title: str, unit: str, predicted: float, taken: list[float]) -> Result:
    ours = Measurement("predicted", unit, [predicted])
    return Result(
        f"{title}, predicted against measured", ours, Measurement("measured", unit, taken)
    )


def _command(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-c", _MAIN, *arguments, "--json", "--quiet"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document
