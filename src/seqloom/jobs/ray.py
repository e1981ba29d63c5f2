"""Runs pieces as Ray tasks with retries. Not as actors: as many actors as cores would stall the cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

from seqloom.core.errors import ConfigError, EngineError, SeqloomError
from seqloom.core.progress import SILENT, Progress
from seqloom.jobs.base import ATTEMPTS, Work


class RayRunner:
    """Runs pieces on a Ray cluster, or on a Ray instance started here if no address is given.

    seqloom and the files of the job must have the same paths on every node.

    Raises:
        ConfigError: Ray is not installed.
        EngineError: no cluster answers at `address`.
    """

    name = "ray"

    def __init__(
        self,
        address: str | None = None,
        task_cpus: float = 1.0,
        task_gpus: float = 0.0,
        workers: int | None = None,
    ) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError(
                "the engine ray needs Ray: pip install 'seqloom[ray]', or choose the engine local"
            ) from None
        self._ray = ray
        self._cpus, self._gpus = task_cpus, task_gpus
        self._workers = workers
        if not ray.is_initialized():
            try:
                ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise EngineError(
                    f"no Ray cluster answers at {address or 'this machine'} ({error}); start one with "
                    f"`ray start --head`, or name another with ray_address"
                ) from None

    def slots(self) -> int:
        """Returns `workers` if set, else how many pieces fit the cluster's cores and GPUs."""
        available = self._ray.cluster_resources()
        requested = {"CPU": self._cpus, "GPU": self._gpus}
        fits = min(available.get(kind, 0.0) / share for kind, share in requested.items() if share)
        return self._workers or max(1, int(fits))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnects from the cluster, which keeps running; ends a Ray instance started here."""
        self._ray.shutdown()

    def run(
        self, work: Work, pieces: Sequence[int], *, name: str, progress: Progress = SILENT
    ) -> list[Any]:
        """See `seqloom.jobs.base.JobRunner`."""
        threads = str(max(1, int(self._cpus)))
        environment = dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS"), threads)
        piece_task = self._ray.remote(_run_piece).options(
            num_cpus=self._cpus,
            num_gpus=self._gpus,
            max_retries=ATTEMPTS - 1,
            name=f"seqloom {name}",
            runtime_env={"env_vars": environment},
        )
        waiting = list(reversed(pieces))
        at_once = self._workers or len(pieces)
        running: dict[Any, int] = {}
        results: dict[int, Any] = {}
        shared = self._ray.put(work)
        with progress.task(name, total=len(pieces), unit="pieces") as task:
            while waiting or running:
                while waiting and len(running) < at_once:
                    piece = waiting.pop()
                    running[piece_task.remote(shared, os.getcwd(), piece)] = piece
                done, _ = self._ray.wait(list(running), num_returns=1)
                for reference in done:
                    piece = running.pop(reference)
                    results[piece] = self._fetch_result(reference, piece, name)
                    task.advance()
        return [results[piece] for piece in pieces]

    def _fetch_result(self, reference: Any, piece: int, name: str) -> Any:
        """Returns the result of a finished task, or raises its error as one of seqloom's."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, SeqloomError):
                raise error.cause from None
            raise EngineError(f"{name}: piece {piece} failed:\n{error}") from None
        except errors.RayError as error:
            raise EngineError(
                f"{name}: Ray gave up on piece {piece} after {ATTEMPTS} attempts: {error}"
            ) from None


def _run_piece(work: Work, folder: str, piece: int) -> Any:
    """Runs a piece in the folder where the job was started, since its paths may be relative."""
    os.chdir(folder)
    return work(piece)
