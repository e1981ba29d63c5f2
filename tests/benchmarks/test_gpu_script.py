"""The script for a machine with an accelerator, tried here on a CPU with as little installed as there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ABSENT = ("polars", "transformers", "sentence_transformers", "narwhals", "httpx", "typer", "rich")
MAIN = """
import runpy, sys
for name in {absent!r}:
    sys.modules[name] = None
sys.argv = ["gpu.py", "--device", "cpu", "--tiny", "--out", {out!r}]
runpy.run_path({script!r}, run_name="__main__")
"""


def test_every_part_runs_without_what_the_machine_has_not(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    code = MAIN.format(absent=ABSENT, out=str(out), script=str(ROOT / "benchmarks" / "gpu.py"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    actual = json.loads(out.read_text())
    assert set(actual) == {"machine", "bars", "epochs", "waits", "compiled", "million"}
    assert actual["epochs"]["batch 128"]["seconds_per_epoch"] > 0
    assert actual["million"]["as it is, ms"] > 0
