"""A run that is killed and resumed ends with the bits of an unbroken one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seqloom.core.errors import ArtefactError
from seqloom.data.store import Dataset
from seqloom.pipelines.embed.embed import embed
from seqloom.pipelines.embed.options import EmbedOptions
from seqloom.pipelines.train.train import train
from support.datasets import SMALL_IDGENREC, tiny_dataset

TRAIN = """
import os, signal, sys, json
from seqloom.training.checkpoint import Checkpoints
from seqloom.pipelines.train.train import train
data, system, out, config, kill_at = sys.argv[1:]
saves = 0
save = Checkpoints.save_last
def save_and_die(self, *arguments):
    global saves
    save(self, *arguments)
    saves += 1
    if saves == int(kill_at):
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoints.save_last = save_and_die
train(data, system, out=out, config=json.loads(config), resume=True, device="cpu", checkpoint_every_s=0)
"""
CONFIG = {
    "epochs": 3,
    "batch_size": 8,
    "patience": 2,
    "encoder": {"hidden_size": 16, "max_len": 6},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    draw = torch.Generator().manual_seed(3)
    histories = [
        (
            torch.randint(30, (int(torch.randint(3, 12, (), generator=draw)),), generator=draw) + 1
        ).tolist()
        for _ in range(40)
    ]
    things, colours = ("soap", "brush", "cream", "comb", "towel"), ("red", "blue", "green")
    titles = [f"{c} {t} {s}" for t in things for c in colours for s in ("small", "large")]
    made = tiny_dataset(tmp_path_factory.mktemp("data") / "d", histories, titles)
    embed(made, EmbedOptions(encoder="hash", users="mean"))
    return made


def run(data: Dataset, system: str, out: Path, kill_at: int) -> Path:
    tower = {"semantic": {"tower": {**CONFIG, "epochs": 1}}}
    configs = {"idgenrec": SMALL_IDGENREC, "llmesr": {**CONFIG, **tower}}
    command: list[Any] = [
        sys.executable,
        "-c",
        TRAIN,
        data.path,
        system,
        out,
        json.dumps(configs.get(system, CONFIG)),
        str(kill_at),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    expected = -signal.SIGKILL if kill_at else 0
    assert done.returncode == expected, done.stderr
    return out


@pytest.mark.parametrize("system", ["sasrec", "llmesr", "idgenrec"])
def test_killed_and_resumed_equals_unbroken(data: Dataset, tmp_path: Path, system: str) -> None:
    whole = run(data, system, tmp_path / "whole", 0)
    broken = tmp_path / "broken"
    run(data, system, broken, 3)  # within the first epoch
    assert json.loads((broken / "manifest.json").read_text())["status"] == "training"
    run(data, system, broken, 7)  # in a later one
    run(data, system, broken, 0)
    first, second = (load_file(out / "weights.safetensors") for out in (whole, broken))
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
    logs = [
        [{k: v for k, v in json.loads(line).items() if "seconds" not in k} for line in lines]
        for lines in ((out / "log.jsonl").read_text().splitlines() for out in (whole, broken))
    ]
    assert logs[0] == logs[1]
    assert len(logs[0]) >= 2


def test_resuming_with_another_configuration_is_refused(data: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(data, "sasrec", out=out, config=CONFIG, device="cpu")
    with pytest.raises(ArtefactError, match="batch_size: 8 there, 4 now"):
        train(data, "sasrec", out=out, config={**CONFIG, "batch_size": 4}, resume=True)
    with pytest.raises(ArtefactError, match="run of 'sasrec'"):
        train(data, "popularity", out=out, resume=True)
    with pytest.raises(ArtefactError, match="already exists"):
        train(data, "sasrec", out=out, config=CONFIG)


def test_a_folder_that_is_no_run_is_never_overwritten(data: Dataset, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtefactError):
        train(data, "popularity", out=precious, overwrite=True)
    assert (precious / "thesis.txt").exists()
