"""What the engine reports of itself; the application turns it into metrics."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Told by the engine's threads; every method is quick and never raises."""

    def batch(self, model: str, size: int, waited_s: float, took_s: float) -> None:
        """A batch was answered."""

    def reload(self, model: str, ok: bool) -> None:
        """A model was loaded anew, or could not be."""

    def store_error(self, what: str) -> None:
        """The store failed while `what`."""


class Unobserved:
    """Nobody is told."""

    def batch(self, model: str, size: int, waited_s: float, took_s: float) -> None:
        """See `Observer`."""

    def reload(self, model: str, ok: bool) -> None:
        """See `Observer`."""

    def store_error(self, what: str) -> None:
        """See `Observer`."""
