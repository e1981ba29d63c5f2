"""Fixtures of the tests over systems."""

from support.system_fixtures import configured, dataset, members, trained

__all__ = ["configured", "dataset", "members", "trained"]
