"""Metrics of a run on the held-out parts."""
