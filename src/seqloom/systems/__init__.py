"""Recommender systems: each has training phases and a scorer."""
