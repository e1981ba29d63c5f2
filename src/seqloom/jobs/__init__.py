"""Runs independent pieces of a job: in local processes or on a Ray cluster, behind one interface."""

from __future__ import annotations

from seqloom.jobs.base import ATTEMPTS, JobRunner, Work
from seqloom.jobs.factory import JobOptions, build_runner

__all__ = ["ATTEMPTS", "JobOptions", "JobRunner", "Work", "build_runner"]
