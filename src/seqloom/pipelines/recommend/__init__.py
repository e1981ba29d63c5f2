"""Lists from a run, new items, and exports."""
