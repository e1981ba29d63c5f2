"""Pretrained models and data: downloaded once, pinned by version and hash, and read safely."""
