"""Sweeps, searches and reproductions: many runs."""
