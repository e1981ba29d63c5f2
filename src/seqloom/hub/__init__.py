"""Pretrained models and data, fetched once, pinned by version and hash, and read safely."""
