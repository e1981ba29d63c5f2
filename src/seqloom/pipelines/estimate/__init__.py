"""Memory, time and disk of a training before it begins."""
