"""Figures and HTML reports of comparisons, sweeps and audits."""
