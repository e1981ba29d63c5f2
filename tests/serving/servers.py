"""Real servers on loopback: PostgreSQL, Redis, and `seqloom serve` as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_POSTGRES_HOMES = Path("/usr/lib/postgresql")
_SOURCES = str(Path(__file__).resolve().parents[2] / "src")
_MAIN = "from seqloom.cli.main import main; main()"


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen, seconds: float = 30) -> None:
    """Wait until something listens on the port."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port} after {seconds} s")


@contextlib.contextmanager
def running(
    command: list[str], port: int, stop: signal.Signals = signal.SIGTERM, **options
) -> Iterator[None]:
    """The server that `command` starts, until the block ends."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **options)
        try:
            wait_for(port, process)
            yield
        finally:
            process.send_signal(stop)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """A Redis that flushes every write; gives its URL."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server on this machine (Debian package redis-server)")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        with running(command, port):
            yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """A PostgreSQL of its own data folder; gives its URL. It refuses root: then user postgres runs it."""
    homes = sorted(_POSTGRES_HOMES.glob("*/bin/initdb")) if _POSTGRES_HOMES.exists() else []
    if not homes:
        pytest.skip("no PostgreSQL server on this machine (Debian package postgresql)")
    binaries = homes[-1].parent
    account: dict = {}
    if os.geteuid() == 0:
        try:
            account = {"user": pwd.getpwnam("postgres").pw_name, "extra_groups": []}
        except KeyError:
            pytest.skip("root may not run PostgreSQL, and there is no user postgres")
    with tempfile.TemporaryDirectory() as folder:
        if account:
            shutil.chown(folder, account["user"])
        data, port = f"{folder}/data", free_port()
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "seqloom", "-A", "trust", "--no-sync"],
            check=True, capture_output=True, cwd=folder, **account,
        )  # fmt: skip
        command = [str(binaries / "postgres"), "-D", data, "-p", str(port), "-k", folder]
        for setting in ("listen_addresses=127.0.0.1", "max_connections=50", "fsync=off"):
            command += ["-c", setting]
        # SIGINT ends it at once; SIGTERM would wait for every client.
        with running(command, port, signal.SIGINT, cwd=folder, **account):
            url = f"postgresql://seqloom@127.0.0.1:{port}/postgres"
            _until_ready(url)
            yield url


def _until_ready(url: str) -> None:
    import psycopg

    for _ in range(100):
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url):
            return
        time.sleep(0.1)
    raise RuntimeError("PostgreSQL does not answer")


class Process:
    """A running `seqloom serve`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.log = (folder / "server.log").open("ab")
        command = [sys.executable, "-c", _MAIN, "serve", *arguments]
        command += ["--port", "0", "--json", "--store", f"sqlite:///{folder / 'store.db'}"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**os.environ, "PYTHONPATH": _SOURCES, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        document = ""
        for line in self.process.stdout:
            document += line
            if line.rstrip() == "}":
                break
        self.told = json.loads(document)
        assert "error" not in self.told, self.told
        self.url = self.told["url"]

    def stop(self, how: int = signal.SIGTERM, seconds: float = 60) -> int:
        """Send a signal and wait for the end; gives the exit code."""
        self.process.send_signal(how)
        code = self.process.wait(seconds)
        self.process.stdout.close()
        self.log.close()
        return code
