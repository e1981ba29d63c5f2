"""The figures of docs/scale.md from measured unit costs: `python -m benchmarks.scale` writes them."""
