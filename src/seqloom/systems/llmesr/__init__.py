"""LLM-ESR: text embeddings inside a sequence encoder, for the long tail (arXiv 2405.20646)."""
