"""E4SRec: item-ID embeddings in a frozen language model, the whole catalogue scored in one pass."""
