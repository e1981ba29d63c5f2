"""MELT: branches that complete tail users and tail items from few events."""
