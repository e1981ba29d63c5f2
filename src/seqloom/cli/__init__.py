"""Argument parsing and progress display, nothing else: what a command does is in `seqloom.runs`."""
