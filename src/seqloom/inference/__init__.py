"""Turns histories into lists: ranking, cold start, top k, approximate search."""
