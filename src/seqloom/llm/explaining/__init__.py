"""Explanations in words: sentences from evidence, each checked against it."""
