"""How `train` treats an existing folder: started, killed, in progress, complete, or not a run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from seqloom.cli.main import run as command
from seqloom.core.errors import ArtefactError, ConfigError, LockedError
from seqloom.core.progress import SilentProgress
from seqloom.data.store import Dataset
from seqloom.pipelines.evaluate.evaluate import evaluate
from seqloom.pipelines.train import start_run
from seqloom.pipelines.train.train import train
from seqloom.runs.folder import load_run
from seqloom.runs.manifest import read_manifest
from support.datasets import SMALL, looping_dataset, tiny_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return looping_dataset(tmp_path_factory.mktemp("data") / "data")


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: Any) -> None:
        self.lines.append(message)

    warn = note


def fit(data: Dataset, out: Path, **options: Any) -> list[Any]:
    notes = Notes()
    train(data, "sasrec", out=out, config=SMALL, device="cpu", progress=notes, **options)
    return notes.lines


@pytest.mark.parametrize("again", ["resume", "overwrite"])
@pytest.mark.parametrize("killed_in", ["write_tensors", "write_manifest", "record_files"])
def test_a_training_killed_before_it_began_can_be_started_again(
    data: Dataset, tmp_path: Path, again: str, killed_in: str
) -> None:
    killed = f"""
import os
from seqloom.data.store import Dataset
from seqloom.pipelines.train import start_run
from seqloom.pipelines.train.train import train

start_run.{killed_in} = lambda *_, **__: os._exit(9)
data = Dataset.load({str(data.path)!r})
train(data, "sasrec", out={str(tmp_path / "run")!r}, config={SMALL!r}, device="cpu")
"""
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == 9
    assert not (tmp_path / "run").exists()
    fit(data, tmp_path / "run", **{again: True})
    assert load_run(tmp_path / "run").manifest.status == "complete"
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("names", [(), ("config.yaml",), ("config.yaml", "items.parquet")])
@pytest.mark.parametrize("again", ["resume", "overwrite"])
def test_what_an_older_seqloom_left_before_the_manifest_can_be_started_again(
    data: Dataset, tmp_path: Path, names: tuple[Any, ...], again: str
) -> None:
    (tmp_path / "run").mkdir()
    for name in names:
        (tmp_path / "run" / name).write_text("half")
    with pytest.raises(ArtefactError, match="without a run in it"):
        fit(data, tmp_path / "run")
    assert any("holds no run yet" in line for line in fit(data, tmp_path / "run", **{again: True}))
    assert load_run(tmp_path / "run").manifest.status == "complete"


def test_a_run_with_a_damaged_manifest_can_be_overwritten_and_another_folder_cannot(
    data: Dataset, tmp_path: Path
) -> None:
    fit(data, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").write_text("{")
    with pytest.raises(ArtefactError, match="is damaged"):
        fit(data, tmp_path / "run", resume=True)
    fit(data, tmp_path / "run", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ArtefactError, match="is not a run, so it is not overwritten"):
        fit(data, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "letter.txt").exists()


def test_resume_reports_where_it_starts(data: Dataset, tmp_path: Path) -> None:
    first = fit(data, tmp_path / "run", resume=True)
    assert any("nothing to resume, training starts from the beginning" in line for line in first)
    assert any("is complete" in line for line in fit(data, tmp_path / "run", resume=True))


def test_an_overwritten_run_is_whole_until_the_new_one_has_started(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(data, tmp_path / "run")
    before = (tmp_path / "run" / "weights.safetensors").read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(start_run, "write_manifest", fail)
    with pytest.raises(RuntimeError):
        fit(data, tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == before


def test_a_run_in_progress_is_not_entered_by_another_command(data: Dataset, tmp_path: Path) -> None:
    """Starts real processes: the second one reports the first, and continues when that is killed."""
    config = ["epochs=500", "encoder.hidden_size=16", "encoder.max_len=8", "patience=null"]
    arguments = ["train", str(data.path), "--system", "sasrec", "--out", str(tmp_path / "run")]
    options = [part for one in config for part in ("--set", one)]
    started = [sys.executable, "-m", "seqloom", *arguments, *options, "--device", "cpu"]
    process = subprocess.Popen(started, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        last = tmp_path / "run" / "checkpoints" / "last" / "position.json"
        until = time.monotonic() + 60
        while not last.exists():
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.05)
        for again in ({"resume": True}, {"overwrite": True}, {}):
            with pytest.raises(LockedError, match=f"in progress.*process {process.pid} on"):
                fit(data, tmp_path / "run", **again)
        with pytest.raises(ArtefactError, match=f"in progress.*process {process.pid}"):
            load_run(tmp_path / "run")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert read_manifest(tmp_path / "run").status == "training"
    with pytest.raises(ArtefactError, match="another configuration"):  # not: in progress
        fit(data, tmp_path / "run", resume=True)


def test_the_command_names_the_holder(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(data, tmp_path / "run")
    holds = f"""
from pathlib import Path
from seqloom.core.locks import writing

with writing(Path({str(tmp_path / "run")!r})):
    print("ready", flush=True)
    input()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "ready\n"
    try:
        assert command(["evaluate", str(tmp_path / "run"), "--json"]) == 2
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["type"] == "LockedError"
        assert f"process {holder.pid} on" in error["message"]
    finally:
        holder.communicate("done\n")
    assert evaluate(tmp_path / "run", device="cpu").users


@pytest.mark.parametrize("system", ["sasrec", "bert4rec", "llmesr"])
def test_no_epochs_are_refused(data: Dataset, tmp_path: Path, system: str) -> None:
    with pytest.raises(ConfigError, match=r"epochs: found 0"):
        train(data, system, out=tmp_path / "run", config={**SMALL, "epochs": 0})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("masked", "keys", "told"),
    [
        (False, {}, True),
        (True, {}, False),
        (False, {"repeat": "learned"}, False),
        (False, {"loss": {"kind": "bce", "negatives": 1}}, False),
    ],
    ids=["repeats", "masked", "learned", "another loss"],
)
def test_a_term_for_repeats_is_suggested_where_the_data_repeats(
    tmp_path: Path, masked: bool, keys: dict[str, Any], told: bool
) -> None:
    """Of the two training events that have a history one repeats an item, for every user."""
    repeating = tiny_dataset(tmp_path / "data", [[1, 2, 1, 3, 4], [2, 3, 2, 4, 1]] * 4)
    notes = Notes()
    train(
        repeating.deciding(masked),
        "sasrec",
        out=tmp_path / "run",
        config={**SMALL, "epochs": 1, **keys},
        device="cpu",
        progress=notes,
    )
    suggested = [line for line in notes.lines if "repeat=learned" in line]
    assert [line.split(" of ")[0] for line in suggested] == ["50.0\u202f%"] * told


def test_nothing_is_suggested_where_nothing_repeats(data: Dataset, tmp_path: Path) -> None:
    assert data.repeat_share == 0
    notes = fit(data.deciding(False), tmp_path / "run")
    assert not [line for line in notes if "repeat=learned" in line]
