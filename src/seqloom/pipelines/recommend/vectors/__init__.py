"""Writes the item vectors of a run into files and databases for vector search, and measures their recall."""
