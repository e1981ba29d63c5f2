"""Trains many runs: sweeps, searches and reproductions."""
