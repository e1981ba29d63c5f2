"""Where pure pieces of work run: processes of this machine, or a Ray cluster, behind one interface."""

from __future__ import annotations

from seqloom.jobs.base import ATTEMPTS, Engine, Work
from seqloom.jobs.factory import EngineOptions, build_engine

__all__ = ["ATTEMPTS", "Engine", "EngineOptions", "Work", "build_engine"]
