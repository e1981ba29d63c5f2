"""A server to be measured: `seqloom serve` as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx

_MAIN = "from seqloom.cli.main import main; main()"


class Served:
    """A `seqloom serve` process on a free port, with a SQLite store in `folder`, unless others are given."""

    def __init__(self, run: Path, folder: Path, *, store: str | None = None, port: int = 0) -> None:
        began = time.perf_counter()
        command = [sys.executable, "-c", _MAIN, "serve", str(run), "--port", str(port)]
        command += ["--store", store or f"sqlite:///{folder / 'store.db'}", "--json", "--quiet"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        document = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            document += line
            if line.rstrip() == "}":
                break
        self.url: str = json.loads(document)["url"]
        self.port = int(self.url.rsplit(":", 1)[1])
        while True:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    break
            time.sleep(0.01)
        self.ready_s = round(time.perf_counter() - began, 2)
        """Seconds from its command to the first good answer of /readyz."""

    def memory_mb(self) -> float:
        """Resident memory of the process, MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)

    def cpu_s(self) -> float:
        """Processor time of the process so far, seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End it as a failing machine would, and wait."""
        self.process.kill()
        self.process.wait(60)

    def stop(self) -> None:
        """End it and wait."""
        self.process.terminate()
        self.process.wait(60)
