"""Sequence encoders: a history of item vectors in, one state for each position out."""
