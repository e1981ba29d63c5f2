"""Several processes train as one does, stop when one of them dies, and can be fewer or more when resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from seqloom.core.errors import ConfigError
from seqloom.data.batches import plan_epoch, training_rows
from seqloom.data.store import Dataset
from seqloom.distributed.process_group import rows_of_process
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train.start_run import check_processes_agree
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.systems.e4srec.system import BLENDS
from seqloom.systems.sasrec import SASRec
from support.datasets import SMALL_IDGENREC
from support.several_processes import (
    BATCH,
    Folder,
    assert_alike,
    plug_in_config,
    sequence,
    without_dropout,
)

PAPER: dict[str, Any] = {"semantic": {"encoder": "shared"}, "distillation": {"alpha": 0.1}}
"""LLM-ESR with the views and the distillation of its paper."""


def long_jobs(llama: Path) -> dict[str, dict]:
    """More than fifty steps of each."""
    systems = {
        "sasrec": sequence(epochs=13),
        "gru4rec": sequence("gru4rec", epochs=13),
        "bert4rec": sequence("bert4rec", epochs=13),
        "llmesr": sequence(epochs=13, **PAPER),
        "e4srec": plug_in_config(llama, epochs=13, patience=None),
    }
    return {name: {"system": name, "config": config} for name, config in systems.items()}


def short_jobs(llama: Path) -> dict[str, dict]:
    """Losses that look at a whole batch, draws that are made for one, and the other systems."""
    contexts = {"epochs": 2, "dropout": 0.0, "tail_below": None}
    branches: dict[str, Any] = {"joint": {"epochs": 2}, "branches": {"epochs": 2}}
    # The item branch starts as the best map for all head items, where its bias has no gradient. Batches of
    # a part of them give it one; with all of them in one batch AdamW would follow rounding errors.
    few_head_items = 7
    tower = sequence(epochs=2) | {"words": {"dropout": 0.0}}
    systems = {
        "contrast": (
            "llmesr",
            sequence(**{**PAPER, "distillation": {"alpha": 0.1, "kind": "contrast"}}),
        ),
        "words": (
            "e4srec",
            plug_in_config(llama, epochs=2, candidates="words", tower={**tower, "averaging": None}),
        ),
        "apart": ("llmesr", sequence(epochs=2, semantic={"tower": tower})),
        "gbce": ("sasrec", sequence(loss={"kind": "gbce", "negatives": 4})),
        "sampled": ("sasrec", sequence(loss={"kind": "sampled-softmax", "negatives": 8})),
        "melt": ("melt", sequence(epochs=1, batch_size=few_head_items, **branches)),
        "cities": ("cities", sequence(epochs=1, inference=contexts)),
        "idgenrec": ("idgenrec", without_dropout(SMALL_IDGENREC)),
        "dense": (
            "idgenrec",
            {
                **without_dropout(SMALL_IDGENREC),
                "rounds": 1,
                "dense": {"enabled": True, "tower": tower},
            },
        ),
    }
    return {name: {"system": system, "config": c} for name, (system, c) in systems.items()}


RESUMED: dict[str, Any] = {"system": "llmesr", "config": sequence(epochs=3, averaging=3.0, **PAPER)}
STOPPED = {**RESUMED, "stops": 6}
"""Within the second epoch."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="module")
def both(folder: Folder) -> Folder:
    """The same jobs by one process and by two; the latter stop once, too."""
    jobs = long_jobs(folder.llama)
    folder.run({**jobs, "resumed": RESUMED}, "one", 1)
    folder.run({**jobs, "resumed": STOPPED}, "two", 2)
    return folder


@pytest.mark.parametrize("job", ["sasrec", "gru4rec", "bert4rec", "llmesr", "e4srec"])
def test_one_and_two_processes_have_the_same_losses_and_metrics(both: Folder, job: str) -> None:
    assert len(both.read("one", job, "losses.json")) >= 50
    assert_alike(both, ("one", job), ("two", job))
    assert both.read("two", job, "manifest.json")["cost"]["processes"] == 2
    rows = (both.out("two", job) / "log.jsonl").read_text().splitlines()
    blends = len(BLENDS) if job == "e4srec" else 0
    assert len(rows) == 13 + blends, "one process writes the log"


def test_a_run_of_two_processes_is_resumed_by_one(both: Folder) -> None:
    out = both.out("two", "resumed")
    assert both.read("two", "resumed", "manifest.json")["status"] == "training"
    train(both.data, "llmesr", out=out, config=RESUMED["config"], resume=True, device="cpu")
    assert_ends_alike(both, out)


@pytest.mark.slow
def test_a_run_of_one_process_is_resumed_by_two(both: Folder) -> None:
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
    actual = evaluate(out, device="cpu").model_dump(mode="json")
    assert actual["metrics"] == folder.read("one", "resumed", "metrics.json")["metrics"]


@pytest.mark.slow
def test_so_have_losses_over_a_whole_batch_and_the_other_systems(folder: Folder) -> None:
    jobs = short_jobs(folder.llama)
    folder.run(jobs, "one", 1)
    folder.run(jobs, "two", 2)
    for job in jobs:
        assert_alike(folder, ("one", job), ("two", job))


def test_a_killed_process_stops_the_others_with_a_message(folder: Folder) -> None:
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
def test_a_process_that_hangs_stops_the_others_within_a_minute(folder: Folder) -> None:
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
    assert "process 1 has been silent for 30 s" in errors


@pytest.mark.slow
def test_torchrun_starts_the_command_and_one_process_prints(folder: Folder, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(sequence(epochs=1)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    train = ["train", folder.data.path, "--system", "sasrec", "--out", tmp_path / "run"]
    command: list[Any] = [
        *launcher,
        "-m",
        "seqloom",
        *train,
        "--config",
        config,
        "--json",
        "--device",
        "cpu",
    ]
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
    """The second of two processes; `answer` comes from the first."""

    rank, size = 1, 2

    def __init__(self, answer: str) -> None:
        self.run_on_first = lambda act: answer


def test_processes_that_were_started_on_something_else_are_refused(folder: Folder) -> None:
    config = SASRec.config_class.build(sequence())
    others: Any = Others("data set of another kind")
    with pytest.raises(ConfigError, match="give all of them the same command"):
        check_processes_agree(others, folder.data, config)


def test_a_language_model_is_not_spread_where_there_is_none_or_nobody_to_share(
    folder: Folder, tmp_path: Path
) -> None:
    for system, message in (("sasrec", "sasrec has none"), ("e4srec", "only one is running")):
        with pytest.raises(ConfigError, match=message):
            train(folder.data, system, out=tmp_path / "run", fsdp=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("count", "size"), [(13, 2), (1, 2), (7, 3), (0, 2), (4, 4)])
def test_shares_hold_every_row_once(count: int, size: int) -> None:
    parts = [rows_of_process(count, rank, size) for rank in range(size)]
    rows = [row for part in parts for row in range(count)[part]]
    assert rows == list(range(count))
    assert max(p.stop - p.start for p in parts) - min(p.stop - p.start for p in parts) <= 1


def test_shares_of_a_batch_hold_its_targets_once(folder: Folder) -> None:
    rows = training_rows(Dataset.load(folder.data.path).train, 8, "windows")
    plan = plan_epoch(rows, BATCH, 0)
    assert min(map(len, plan.order)) == 1, "a batch with fewer rows than processes is among them"
    for step in range(len(plan)):
        batch = plan[step]
        shares = [batch.share(rows_of_process(len(batch), rank, 2)) for rank in range(2)]
        assert sum(share.num_targets for share in shares) == batch.num_targets
        targets = torch.cat([share.targets[share.targets > 0] for share in shares])
        assert torch.equal(targets, batch.targets[batch.targets > 0])
