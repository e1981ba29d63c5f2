"""Chooses the job runner."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.errors import ConfigError
from seqloom.jobs.base import JobRunner, cores


class JobOptions(Config):
    """Where a job runs."""

    engine: Literal["local", "ray"] = "local"
    """`local`: processes of this machine. `ray`: tasks on a Ray cluster."""
    workers: int | None = Field(default=None, ge=1)
    """Pieces at a time; by default one a core (`local`), or as many as fit the cluster (`ray`)."""
    ray_address: str | None = None
    """Address of a running cluster: `auto`, HOST:PORT or ray://HOST:PORT; without one, Ray starts locally."""
    task_cpus: float = Field(default=1.0, gt=0)
    """Cores that a piece requests from Ray; also sets the threads of each piece."""
    task_gpus: float = Field(default=0.0, ge=0)
    """GPUs that a piece requests from Ray; 0.5 puts two pieces on one GPU. With 0 a piece sees no GPU."""


def build_runner(options: JobOptions) -> JobRunner:
    """Builds the runner that `options` name.

    Raises:
        ConfigError: an option belongs to the other engine, or Ray is not installed.
    """
    if options.engine == "ray":
        from seqloom.jobs.ray import RayRunner

        return RayRunner(options.ray_address, options.task_cpus, options.task_gpus, options.workers)
    if options.ray_address is not None:
        raise ConfigError("ray_address is set, but the engine is local; choose the engine ray")
    from seqloom.jobs.local import LocalRunner

    return LocalRunner(options.workers or cores())
