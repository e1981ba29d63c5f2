"""Sequence encoders: they turn a history of item vectors into a state for each position."""
