"""Training of a run, and what has to be made before it."""
