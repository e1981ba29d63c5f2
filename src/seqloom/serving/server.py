"""The life of a server: open the store and the runs, listen, reload, drain, close."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn

from seqloom.core.errors import SeqloomError, ServingError
from seqloom.core.progress import SILENT, Progress
from seqloom.serving.accepting import Acceptor
from seqloom.serving.admission import Admission
from seqloom.serving.config import ServerConfig
from seqloom.serving.connection import Connection
from seqloom.serving.engine.engine import Engine
from seqloom.serving.http.app import build_app
from seqloom.serving.http.authorization import needs_tokens
from seqloom.serving.http.metrics import Metrics
from seqloom.serving.importing import import_histories
from seqloom.serving.store import open_store

_LOG = logging.getLogger("seqloom.serving")
_BACKLOG = 2048


class Server:
    """Opens everything and listens on construction; `run` answers until `stop`.

    Raises:
        SeqloomError: a run or the store cannot be opened, the address is taken, or tokens are off
            where others can reach the server.
    """

    def __init__(
        self,
        runs: Mapping[str, Path],
        config: ServerConfig,
        *,
        device: str = "cpu",
        progress: Progress = SILENT,
    ) -> None:
        self.tokens = needs_tokens(config)
        with contextlib.ExitStack() as undo:
            self._socket = undo.enter_context(contextlib.closing(_bind(config)))
            self.port: int = self._socket.getsockname()[1]
            store = undo.enter_context(contextlib.closing(open_store(config.store, progress)))
            if config.check_store:
                progress.note(f"checking {store.where}")
                store.check()
            metrics = Metrics()
            progress.note(f"loading {', '.join(runs)}")
            self.engine = undo.enter_context(
                contextlib.closing(
                    Engine(runs, store, config.engine, device=device, observer=metrics)
                )
            )
            if config.engine.approximate:
                for name, model in self.engine.models.items():
                    progress.note(f"{name}: {model.recall or 'exact, no index serves this system'}")
            if config.import_histories:
                import_histories(store, self.engine.models.values(), progress)
            app = build_app(config, self.engine, store, metrics)
            admission = Admission(config.connections, metrics)
            admission.fit_open_files()
            _listen(self._socket, config)
            self._undo = undo.pop_all()
        settings = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=math.ceil(config.drain_s),
            backlog=_BACKLOG,
            server_header=False,
            date_header=False,
        )
        self._uvicorn = _Uvicorn(settings, self.engine, admission)
        self._host = config.host

    def summary(self) -> dict[str, Any]:
        """Returns the address and the served models."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return {
            "url": f"http://{host}:{self.port}",
            "tokens": self.tokens,
            "models": [
                {"model": name, "system": model.system, "version": model.version}
                for name, model in self.engine.models.items()
            ],
        }

    def run(self) -> None:
        """Answers until SIGTERM, SIGINT or `stop`; then finishes the accepted requests and closes."""
        with self._undo:
            self._uvicorn.run(sockets=[self._socket])

    def stop(self) -> None:
        """Ends `run`, from any thread."""
        self._uvicorn.should_exit = True

    def close(self) -> None:
        """Releases everything without running."""
        self._undo.close()


class _Uvicorn(uvicorn.Server):
    """Accepts connections as the admission allows, and reloads the runs on SIGHUP."""

    def __init__(self, config: uvicorn.Config, engine: Engine, admission: Admission) -> None:
        super().__init__(config)
        self._engine = engine
        self._admission = admission
        self._acceptors: list[Acceptor] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`. It receives no socket, because the admission accepts."""
        await super().startup([])
        self._acceptors = [Acceptor(each, self._connection) for each in sockets or ()]
        self._sweeper = asyncio.create_task(self._admission.sweep())
        with contextlib.suppress(
            NotImplementedError, ValueError, RuntimeError
        ):  # not in the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hangup)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As in uvicorn, but does not raise a handled signal again."""
        with contextlib.suppress(KeyboardInterrupt), super().capture_signals():
            yield
            self._captured_signals.clear()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        for acceptor in self._acceptors:
            acceptor.close()
        await super().shutdown(sockets)
        self._sweeper.cancel()

    def _connection(self) -> Connection:
        state = self.lifespan.state
        return Connection(self.config, self.server_state, state, admission=self._admission)

    def _hangup(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        try:
            models = await asyncio.to_thread(self._engine.reload)
        except SeqloomError as error:
            _LOG.error("reload failed", extra={"fields": {"error": str(error)}})
            return
        versions = {model.name: model.version for model in models}
        _LOG.info("reloaded", extra={"fields": {"models": versions}})


def _bind(config: ServerConfig) -> socket.socket:
    """Binds the address before anything is loaded, so that a conflict is reported immediately."""
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((config.host, config.port))
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise _unavailable(config, error) from None
    return sock


def _listen(bound: socket.socket, config: ServerConfig) -> None:
    """Starts listening after all is loaded. Until then connections are refused, so that a proxy
    asks another server instead of waiting for this one.
    """
    try:
        bound.listen(_BACKLOG)
    except OSError as error:  # another process bound the address too and listened first
        raise _unavailable(config, error) from None


def _unavailable(config: ServerConfig, error: OSError) -> ServingError:
    return ServingError(
        f"cannot listen on {config.host}:{config.port} ({error.strerror or error}); "
        "choose another --port or --host"
    )
