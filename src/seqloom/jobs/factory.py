"""Chooses the job runner."""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack

from pydantic import Field

from seqloom.core.config import Config
from seqloom.core.errors import ConfigError
from seqloom.core.keywords import merge_options, public_function
from seqloom.jobs.base import JobRunner, cores


class JobOptions(Config):
    """Where a job runs."""

    engine: Literal["local", "ray"] = "local"
    """Runs the job in pieces: `local` (processes on this machine) or `ray` (tasks on a Ray cluster)."""
    workers: int | None = Field(default=None, ge=1)
    """Pieces that run at the same time; default: one per core (`local`), or as many as fit the cluster."""
    ray_address: str | None = None
    """Running Ray cluster: `auto`, HOST:PORT or ray://HOST:PORT; default: starts Ray on this machine."""
    task_cpus: float = Field(default=1.0, gt=0)
    """Cores per piece that Ray reserves, and threads that a piece uses."""
    task_gpus: float = Field(default=0.0, ge=0)
    """GPUs per piece that Ray reserves; 0.5 runs two pieces on one GPU, 0 hides all GPUs."""


class JobKeywords(TypedDict, total=False):
    """The fields of `JobOptions` as keywords."""

    engine: Literal["local", "ray"]
    workers: int | None
    ray_address: str | None
    task_cpus: float
    task_gpus: float


@public_function(JobOptions)
def build_runner(options: JobOptions | None = None, **keywords: Unpack[JobKeywords]) -> JobRunner:
    """Builds the job runner of `options`.

    Raises:
        ConfigError: an option belongs to the other engine, or Ray is not installed.
    """
    options = merge_options(JobOptions, options, keywords)
    if options.engine == "ray":
        from seqloom.jobs.ray import RayRunner

        return RayRunner(options.ray_address, options.task_cpus, options.task_gpus, options.workers)
    if options.ray_address is not None:
        raise ConfigError("ray_address is set, but the engine is local; choose the engine ray")
    from seqloom.jobs.local import LocalRunner

    return LocalRunner(options.workers or cores())
