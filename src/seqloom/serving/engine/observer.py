"""Reports of the engine, which the application turns into metrics."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Called by the engine's threads; every method is fast and never raises."""

    def batch(self, model: str, size: int, waited_s: float, took_s: float) -> None:
        """Records an answered batch."""

    def reload(self, model: str, ok: bool) -> None:
        """Records a reload, or its failure."""

    def store_error(self, what: str) -> None:
        """Records a failure of the store while `what`."""


class Unobserved:
    """Does not report."""

    def batch(self, model: str, size: int, waited_s: float, took_s: float) -> None:
        """See `Observer`."""

    def reload(self, model: str, ok: bool) -> None:
        """See `Observer`."""

    def store_error(self, what: str) -> None:
        """See `Observer`."""
