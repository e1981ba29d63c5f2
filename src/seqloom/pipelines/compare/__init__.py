"""Comparison of runs: tests, costs and the report."""
