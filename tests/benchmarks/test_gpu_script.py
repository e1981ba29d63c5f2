"""The script for a machine with an accelerator, tried here on a CPU with as little installed as there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from benchmarks.gpu_bench import Bench, UnavailableError

from benchmarks import gpu, gpu_models
from support.language_models import save_tiny_llama, save_tiny_sentence_model

ROOT = Path(__file__).resolve().parents[2]
ABSENT = ("polars", "transformers", "sentence_transformers", "narwhals", "httpx", "typer", "rich")
MAIN = """
import runpy, sys
for name in {absent!r}:
    sys.modules[name] = None
sys.argv = ["gpu.py", "--device", "cpu", "--quick", "--out", {out!r}]
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


def test_every_part_runs_or_says_why_not_with_what_the_machine_has(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    code = MAIN.format(absent=ABSENT, out=str(out))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    actual = json.loads(out.read_text())
    assert set(actual["missing"]) == {"embedding", "e4srec", "decoding"}
    assert actual["missing"]["e4srec"] == "not measured: no --llm was given"
    titles = {result["title"] for result in actual["results"]}
    assert {"SASRec epoch, batch 128", "SASRec step, batch 128, one by one"} <= titles
    assert all(value > 0 for result in actual["results"] for value in result["ours"]["values"])
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [line["part"] for line in lines if "part" in line] == list(gpu.PARTS)
    page = out.with_suffix(".md").read_text()
    assert "| SASRec epoch, batch 128 |" in page
    assert "- e4srec: not measured" in page


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(
        torch.device("cpu"),
        tmp_path,
        quick=True,
        encoder=save_tiny_sentence_model(tmp_path / "encoder"),
        llm=save_tiny_llama(tmp_path / "llm"),
    )


def test_parts_with_language_models_run(bench: Bench) -> None:
    (embedded,) = gpu_models.embedding(bench)
    assert embedded.yardstick is not None
    recall = embedded.notes["embedding: recall of 10 nearest"]
    assert 0 < float(recall.split()[0]) <= 1
    read = gpu_models.e4srec(bench)
    assert {"E4SRec scores of 1 of the users at once, without graphs"} < {r.title for r in read}
    assert any("gradient checkpointing" in result.title for result in read)
    beams = gpu_models.decoding(bench)
    assert {"Beam search, one user, without graphs"} < {r.title for r in beams}
    for result in (embedded, *read, *beams):
        assert result.ours.median > 0


def test_a_part_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match="3 s were left"), gpu._limit(3):
        pass
    monkeypatch.setattr(gpu, "_FEWEST_S", 0)
    with pytest.raises(TimeoutError), gpu._limit(0.05):
        time.sleep(5)
