"""Comparison of runs: tests, prices and the report."""
