"""Experiment trackers: where parameters, metrics and artefacts of a training are recorded."""

from __future__ import annotations

from seqloom.training.trackers.base import Subject, Tracker, flat_parameters
from seqloom.training.trackers.factory import TRACKERS, build_tracker

__all__ = ["TRACKERS", "Subject", "Tracker", "build_tracker", "flat_parameters"]
