"""Real servers on free ports of loopback, for benchmarks and tests: PostgreSQL, Redis, nginx."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_POSTGRES_HOMES = Path("/usr/lib/postgresql")
_NGINX_CONF = Path(__file__).resolve().parents[1] / "deploy" / "nginx.conf"
_UPSTREAM = re.compile(r"( *)server \S+:\d+ (.*;)\n(?: *server \S+:\d+ .*;\n)*")


class MissingServerError(RuntimeError):
    """This machine has no such server, or may not run it."""


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """A Redis that flushes every write; gives its URL.

    Raises:
        MissingServerError: there is no redis-server.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        raise MissingServerError("no redis-server on this machine (Debian package redis-server)")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        with _running(command, port):
            yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def postgres_server(*, flushes: bool = True, binaries: Path | None = None) -> Iterator[str]:
    """A PostgreSQL of its own data folder; gives its URL. It refuses root: then user postgres runs it.

    Without `flushes` it is quicker, and what it keeps does not survive the machine. `binaries` is the folder
    of its programs, by default Debian's newest.

    Raises:
        MissingServerError: there is no PostgreSQL, or no user that may run it.
    """
    homes = sorted(_POSTGRES_HOMES.glob("*/bin/initdb")) if _POSTGRES_HOMES.exists() else []
    if not homes and binaries is None:
        raise MissingServerError("no PostgreSQL server on this machine (Debian package postgresql)")
    binaries = binaries or homes[-1].parent
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        try:
            account = {"user": pwd.getpwnam("postgres").pw_name, "extra_groups": []}
        except KeyError:
            raise MissingServerError(
                "root may not run PostgreSQL, and there is no user postgres"
            ) from None
    with tempfile.TemporaryDirectory() as folder:
        if account:
            shutil.chown(folder, account["user"])
        data, port = f"{folder}/data", free_port()
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "seqloom", "-A", "trust", "--no-sync"],
            check=True, capture_output=True, cwd=folder, **account,
        )  # fmt: skip
        command = [str(binaries / "postgres"), "-D", data, "-p", str(port), "-k", folder]
        fsync = f"fsync={'on' if flushes else 'off'}"
        for setting in ("listen_addresses=127.0.0.1", "max_connections=50", fsync):
            command += ["-c", setting]
        # SIGINT ends it at once; SIGTERM would wait for every client.
        with _running(command, port, signal.SIGINT, cwd=folder, **account):
            url = f"postgresql://seqloom@127.0.0.1:{port}/postgres"
            _until_ready(url)
            yield url


@contextlib.contextmanager
def pgvector_server() -> Iterator[str]:
    """A PostgreSQL that has the extension pgvector: Debian's, or that of the package pgserver.

    Raises:
        MissingServerError: there is none.
    """
    controls = Path("/usr/share/postgresql").glob("*/extension/vector.control")
    homes = [_POSTGRES_HOMES / control.parents[1].name / "bin" for control in controls]
    package = importlib.util.find_spec("pgserver")
    if package is not None and package.origin is not None:
        homes.append(Path(package.origin).parent / "pginstall/bin")
    home = next((home for home in homes if (home / "initdb").exists()), None)
    if home is None:
        raise MissingServerError(
            "no PostgreSQL with pgvector (Debian package postgresql-NN-pgvector, or pip install pgserver)"
        )
    with postgres_server(flushes=False, binaries=home) as url:
        yield url


@contextlib.contextmanager
def nginx_server(ports: Sequence[int]) -> Iterator[str]:
    """nginx by deploy/nginx.conf in front of the servers on `ports`; gives its URL.

    Raises:
        MissingServerError: there is no nginx.
    """
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        raise MissingServerError("no nginx on this machine (Debian package nginx)")
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        file = Path(folder, "nginx.conf")
        file.write_text(_here(_NGINX_CONF.read_text(encoding="utf-8"), ports, port, folder))
        with _running([binary, "-p", folder, "-c", str(file), "-e", "stderr"], port):
            yield f"http://127.0.0.1:{port}"


def _here(text: str, ports: Sequence[int], port: int, folder: str) -> str:
    """The shipped configuration with this machine's addresses and folders; all else stays."""
    text = _UPSTREAM.sub(
        lambda match: "".join(f"{match[1]}server 127.0.0.1:{p} {match[2]}\n" for p in ports), text
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    scratch = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    text = text.replace("http {\n", f"http {{\n{scratch}", 1)
    text = text.replace("listen 8080 ", f"listen 127.0.0.1:{port} ")
    user = "user root;\n" if os.geteuid() == 0 else ""  # the folder is its maker's alone
    return f"daemon off;\npid {folder}/pid;\n{user}{text}"


@contextlib.contextmanager
def _running(
    command: list[str], port: int, stop: signal.Signals = signal.SIGTERM, **options: Any
) -> Iterator[None]:
    """The server that `command` starts, until the block ends."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **options)
        try:
            _wait_for(port, process)
            yield
        except RuntimeError as error:
            log.seek(0)
            error.add_note(log.read()[-2000:].decode(errors="replace"))
            raise
        finally:
            process.send_signal(stop)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port} after {seconds} s")


def _until_ready(url: str) -> None:
    import psycopg

    for _ in range(100):
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url):
            return
        time.sleep(0.1)
    raise RuntimeError("PostgreSQL does not answer")
