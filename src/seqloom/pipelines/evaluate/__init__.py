"""Measures a run on the held-out parts."""
