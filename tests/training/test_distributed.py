"""Several processes train as one does, stop when one of them dies, and can be fewer or more when resumed."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from helpers import SMALL_IDGENREC, looping_dataset
from lm import tiny_llama
from seqloom.core.errors import ConfigError
from seqloom.core.process_group import part_of
from seqloom.data.batches import plan_epoch, training_rows
from seqloom.data.store import Dataset
from seqloom.runs.beginning import check_alike
from seqloom.runs.evaluate import evaluate
from seqloom.runs.folder import load_run
from seqloom.runs.train import train
from seqloom.systems.sasrec import SASRec

WORKER = Path(__file__).with_name("joined.py")
BATCH = 23


def sequence(kind: str = "sasrec", epochs: int = 2, **keys) -> dict:
    """No dropout: what it draws depends on the number of processes."""
    encoder = {
        "kind": kind,
        "hidden_size": 16,
        "max_len": 8,
        "dropout": 0.0,
        "output_dropout": 0.0,
    }
    start = {"epochs": epochs, "batch_size": BATCH, "patience": None, "encoder": encoder}
    return {**start, **keys}


def plug_in(llama: Path, **keys) -> dict:
    return {
        "batch_size": BATCH,
        "max_len": 8,
        "dropout": 0.0,
        "warmup_steps": 5,
        "lora": {"dropout": 0.0},
        "llm": {"name": str(llama), "num_layers": 1},
        "ids": {"config": sequence(epochs=1)},
        **keys,
    }


def without_dropout(config: dict) -> dict:
    models = ("generator", "recommender")
    return {**config, **{name: {**config[name], "dropout": 0.0} for name in models}}


def long_jobs(llama: Path) -> dict[str, dict]:
    """More than fifty steps of each."""
    systems = {
        "sasrec": sequence(epochs=13),
        "gru4rec": sequence("gru4rec", epochs=13),
        "bert4rec": sequence("bert4rec", epochs=13),
        "llmesr": sequence(epochs=13),
        "e4srec": plug_in(llama, epochs=13, patience=None),
    }
    return {name: {"system": name, "config": config} for name, config in systems.items()}


def short_jobs() -> dict[str, dict]:
    """Losses that look at a whole batch, draws that are made for one, and the other systems."""
    contexts = {"epochs": 2, "dropout": 0.0}
    systems = {
        "contrast": ("llmesr", sequence(distillation={"kind": "contrast"})),
        "gbce": ("sasrec", sequence(loss={"kind": "gbce", "negatives": 4})),
        "sampled": ("sasrec", sequence(loss={"kind": "sampled-softmax", "negatives": 8})),
        "melt": ("melt", sequence(epochs=1, joint={"epochs": 2})),
        "cities": ("cities", sequence(epochs=1, inference=contexts)),
        "idgenrec": ("idgenrec", without_dropout(SMALL_IDGENREC)),
    }
    return {name: {"system": system, "config": c} for name, (system, c) in systems.items()}


RESUMED = {"system": "llmesr", "config": sequence(epochs=3, averaging=3.0)}
STOPPED = {**RESUMED, "stops": 6}
"""Within the second epoch."""


class Folder:
    """A data set, a language model, and the processes that are started over them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = looping_dataset(path / "data")
        self.llama = tiny_llama(path / "llama")

    def start(self, jobs: dict[str, dict], name: str, size: int) -> list[subprocess.Popen[str]]:
        """`size` processes with the environment that torchrun gives them."""
        data = str(self.data.path)
        rows = [
            {"data": data, "out": str(self.out(name, job)), **told} for job, told in jobs.items()
        ]
        file = self.path / f"{name}-{size}.json"
        file.write_text(json.dumps(rows))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        found = []
        for rank in range(size):
            own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size}
            own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environment = os.environ | {key: str(value) for key, value in own.items()}
            command = [sys.executable, str(WORKER), str(file)]
            found.append(
                subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
            )
        return found

    def run(self, jobs: dict[str, dict], name: str, size: int) -> None:
        for process in self.start(jobs, name, size):
            _, errors = process.communicate()
            assert process.returncode == 0, errors

    def out(self, name: str, job: str) -> Path:
        return self.path / name / job

    def read(self, name: str, job: str, file: str):
        return json.loads((self.out(name, job) / file).read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    return Folder(tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="module")
def both(folder) -> Folder:
    """The same jobs by one process and by two; the latter spread a language model and stop once, too."""
    jobs = long_jobs(folder.llama)
    folder.run({**jobs, "resumed": RESUMED}, "one", 1)
    spread = {**jobs["e4srec"], "shard": True}
    folder.run({**jobs, "spread": spread, "resumed": STOPPED}, "two", 2)
    return folder


def assert_alike(folder: Folder, one: tuple[str, str], two: tuple[str, str]) -> None:
    """The losses of every step to 5 digits, and all that `evaluate` found."""
    first, second = (folder.read(*run, "losses.json") for run in (one, two))
    assert len(first) == len(second)
    for step, (a, b) in enumerate(zip(first, second, strict=True)):
        assert a.keys() == b.keys()
        for part in a:
            assert math.isclose(a[part], b[part], rel_tol=1e-5, abs_tol=1e-7), (step, part, a, b)
    metrics = [folder.read(*run, "metrics.json") for run in (one, two)]
    for entry in ("users", "metrics", "groups", "thresholds"):
        assert metrics[0][entry] == metrics[1][entry]


@pytest.mark.parametrize("job", ["sasrec", "gru4rec", "bert4rec", "llmesr", "e4srec"])
def test_one_and_two_processes_have_the_same_losses_and_metrics(both, job):
    assert len(both.read("one", job, "losses.json")) >= 50
    assert_alike(both, ("one", job), ("two", job))
    assert both.read("two", job, "manifest.json")["cost"]["processes"] == 2
    rows = (both.out("two", job) / "log.jsonl").read_text().splitlines()
    assert len(rows) == 13, "one process writes the log"


def test_a_language_model_spread_over_processes_changes_nothing(both):
    assert_alike(both, ("one", "e4srec"), ("two", "spread"))


def test_a_run_of_two_processes_is_resumed_by_one(both):
    out = both.out("two", "resumed")
    assert both.read("two", "resumed", "manifest.json")["status"] == "training"
    train(both.data, "llmesr", out=out, config=RESUMED["config"], resume=True, device="cpu")
    assert_ends_alike(both, out)


@pytest.mark.slow
def test_a_run_of_one_process_is_resumed_by_two(both):
    both.run({"resumed": STOPPED}, "later", 1)
    both.run({"resumed": RESUMED}, "later", 2)
    assert_ends_alike(both, both.out("later", "resumed"))


def assert_ends_alike(folder: Folder, out: Path) -> None:
    """The resumed run, and the one that one process trained without a break."""
    rows = [
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        for run in (folder.out("one", "resumed"), out)
    ]
    for whole, resumed in zip(*rows, strict=True):
        assert resumed["train"] == pytest.approx(whole["train"], rel=1e-5)
        assert resumed["valid"] == pytest.approx(whole["valid"])
        assert resumed["targets"] == whole["targets"]
    found = evaluate(out, device="cpu").model_dump(mode="json")
    assert found["metrics"] == folder.read("one", "resumed", "metrics.json")["metrics"]


@pytest.mark.slow
def test_so_have_losses_over_a_whole_batch_and_the_other_systems(folder):
    jobs = short_jobs()
    folder.run(jobs, "one", 1)
    folder.run(jobs, "two", 2)
    for job in jobs:
        assert_alike(folder, ("one", job), ("two", job))


def test_a_killed_process_stops_the_others_with_a_message(folder):
    long = {"system": "sasrec", "config": sequence(epochs=100), "dies": 1, "after": 9}
    first, second = folder.start({"sasrec": long}, "killed", 2)
    assert second.wait() == -signal.SIGKILL
    started = time.monotonic()
    _, errors = first.communicate(timeout=60)
    assert time.monotonic() - started < 60
    assert first.returncode > 0
    assert "another process is gone" in errors
    assert "--resume" in errors
    assert folder.read("killed", "sasrec", "manifest.json")["status"] == "training"


@pytest.mark.slow
def test_a_process_that_hangs_stops_the_others_within_a_minute(folder):
    long = {"system": "sasrec", "config": sequence(epochs=100), "dies": 1, "after": 9}
    long["signal"] = signal.SIGSTOP
    first, second = folder.start({"sasrec": long}, "hung", 2)
    try:
        while "T (stopped)" not in Path(f"/proc/{second.pid}/status").read_text():
            assert first.poll() is None
            time.sleep(0.5)
        _, errors = first.communicate(timeout=60)
    finally:
        second.kill()
        second.wait()
    assert first.returncode == 1
    assert "process 1 has said nothing for 30 s" in errors


@pytest.mark.slow
def test_torchrun_starts_the_command_and_one_process_speaks(folder, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(sequence(epochs=1)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    train = ["train", folder.data.path, "--system", "sasrec", "--out", tmp_path / "run"]
    command = [*launcher, "-m", "seqloom", *train, "--config", config, "--json", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 1
    assert load_run(tmp_path / "run").manifest.cost.processes == 2
    again = subprocess.run(
        [*launcher, "-m", "seqloom", "systems", "sasrec"], capture_output=True, text=True
    )
    assert again.returncode != 0
    assert "run this command without torchrun" in again.stderr


class Others:
    """What the first process has told."""

    rank, size = 1, 2

    def __init__(self, told: str) -> None:
        self.once = lambda act: told


def test_processes_that_were_started_on_something_else_are_refused(folder):
    config = SASRec.config_class.build(sequence())
    with pytest.raises(ConfigError, match="give all of them the same command"):
        check_alike(Others("data set of another kind"), folder.data, config)


def test_a_language_model_is_not_spread_where_there_is_none_or_nobody_to_share(folder, tmp_path):
    for system, message in (("sasrec", "sasrec does not have"), ("e4srec", "this is one")):
        with pytest.raises(ConfigError, match=message):
            train(folder.data, system, out=tmp_path / "run", shard=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("count", "size"), [(13, 2), (1, 2), (7, 3), (0, 2), (4, 4)])
def test_shares_hold_every_row_once(count, size):
    parts = [part_of(count, rank, size) for rank in range(size)]
    rows = [row for part in parts for row in range(count)[part]]
    assert rows == list(range(count))
    assert max(p.stop - p.start for p in parts) - min(p.stop - p.start for p in parts) <= 1


def test_shares_of_a_batch_hold_its_targets_once(folder):
    rows = training_rows(Dataset.load(folder.data.path).train, 8, "windows")
    plan = plan_epoch(rows, BATCH, 0)
    assert min(map(len, plan.order)) == 1, "a batch with fewer rows than processes is among them"
    for step in range(len(plan)):
        batch = plan[step]
        shares = [batch.share(part_of(len(batch), rank, 2)) for rank in range(2)]
        assert sum(share.num_targets for share in shares) == batch.num_targets
        targets = torch.cat([share.targets[share.targets > 0] for share in shares])
        assert torch.equal(targets, batch.targets[batch.targets > 0])
