"""The environment of a yardstick, created under a scratch folder, and calls of its script in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TORCH = "torch==2.13.0"
"""Installed first and alone, so that a CPU build from the configured index satisfies the rest."""
_SCRIPTS = Path(__file__).parent
_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}
"""What `seqloom.core.device.keep_freed_memory` sets, for a process that is not ours."""
_SHOWN = 600


class YardstickError(Exception):
    """A yardstick could not be installed, or failed; the message says how."""


@dataclass(frozen=True)
class Yardstick:
    """A library, and `run_NAME.py` beside this file that trains and ranks with it."""

    name: str
    title: str
    requirements: tuple[str, ...]
    batch_size: int

    def install(self, folder: Path) -> Path:
        """The interpreter of the environment under `folder`; made where it is absent or of other versions.

        Raises:
            YardstickError: pip failed; the message has the end of its output.
        """
        home = folder.resolve() / self.name
        python, stamp = home / "bin" / "python", home / "installed.txt"
        packages = "\n".join([TORCH, *self.requirements])
        if stamp.exists() and stamp.read_text(encoding="utf-8") == packages:
            return python
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        _call([sys.executable, "-m", "venv", "--clear", str(home)])
        _call([*pip, TORCH])
        _call([*pip, TORCH, *self.requirements])
        stamp.write_text(packages, encoding="utf-8")
        return python

    def measure(self, folder: Path, data: Path, **options: float) -> dict[str, Any]:
        """What the script measured on the sequences in the file `data`; see `common.Recorder`.

        Raises:
            YardstickError: it cannot be installed, or the script failed.
        """
        python = self.install(folder)
        out = folder.resolve() / f"{self.name}.json"
        command = [str(python), str(_SCRIPTS / f"run_{self.name}.py")]
        command += ["--data", str(data.resolve()), "--out", str(out)]
        command += ["--batch-size", str(self.batch_size)]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        _call(command)
        document: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return document


def _call(command: list[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | _ALLOCATOR
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        output = (done.stderr or done.stdout).strip()[-_SHOWN:]
        raise YardstickError(f"{' '.join(command[:6])} ... gave {done.returncode}: {output}")
