"""Fixtures of the contracts of all systems."""

from support.system_fixtures import configured, dataset, members, trained

__all__ = ["configured", "dataset", "members", "trained"]
