"""Real servers on loopback: PostgreSQL, Redis, nginx, and `seqloom serve` as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.backends import free_port

from benchmarks import backends

__all__ = [
    "SOURCES",
    "Process",
    "free_port",
    "nginx_server",
    "pgvector_server",
    "postgres_server",
    "redis_server",
]
SOURCES = str(Path(__file__).resolve().parents[2] / "src")
_MAIN = "from seqloom.cli.main import main; main()"


@contextlib.contextmanager
def _or_skip(server: AbstractContextManager[str]) -> Iterator[str]:
    """Starts `server`; skips the test where the machine has none."""
    with contextlib.ExitStack() as running:
        try:
            url = running.enter_context(server)
        except backends.MissingServerError as missing:
            pytest.skip(str(missing))
        yield url


def redis_server() -> AbstractContextManager[str]:
    """Starts a Redis that flushes every write; yields its URL."""
    return _or_skip(backends.redis_server())


def postgres_server() -> AbstractContextManager[str]:
    """Starts a PostgreSQL without durability; yields its URL."""
    return _or_skip(backends.postgres_server(flushes=False))


def pgvector_server() -> AbstractContextManager[str]:
    """A PostgreSQL with the extension pgvector; gives its URL."""
    return _or_skip(backends.pgvector_server())


def nginx_server(ports: Sequence[int]) -> AbstractContextManager[str]:
    """Starts nginx by deploy/nginx.conf in front of the servers on `ports`; yields its URL."""
    return _or_skip(backends.nginx_server(ports))


class Process:
    """A running `seqloom serve`, on a free port and a SQLite store where no others are given.

    `open_files` is its limit of open files; `before` is Python that it runs first.
    """

    def __init__(
        self, folder: Path, *arguments: str, open_files: int | None = None, before: str = ""
    ) -> None:
        self.log = (folder / "server.log").open("ab")
        main = before + _MAIN
        if open_files is not None:
            main = (
                f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, ({open_files},) * 2); {main}"
            )
        command = [sys.executable, "-c", main, "serve", *arguments, "--json"]
        if "--port" not in arguments:
            command += ["--port", "0"]
        if "--store" not in arguments:
            command += ["--store", f"sqlite:///{folder / 'store.db'}"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**os.environ, "PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self._summary: dict | None = None

    @property
    def summary(self) -> dict:
        """The document that it prints when it listens."""
        if self._summary is None:
            document = ""
            for line in self.process.stdout:
                document += line
                if line.rstrip() == "}":
                    break
            self._summary = json.loads(document)
            assert "error" not in self._summary, self._summary
        return self._summary

    @property
    def url(self) -> str:
        """Its address; waits until it listens."""
        return self.summary["url"]

    @property
    def port(self) -> int:
        """Its port; waits until it listens."""
        return int(self.url.rsplit(":", 1)[1])

    def stop(self, how: int = signal.SIGTERM, seconds: float = 60) -> int:
        """Sends a signal and waits for the end; returns the exit code."""
        self.process.send_signal(how)
        code = self.process.wait(seconds)
        self.process.stdout.close()
        self.log.close()
        return code
