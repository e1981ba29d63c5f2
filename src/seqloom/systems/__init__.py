"""The recommenders: each gives its training phases and a scorer."""
