"""Text embeddings of a data set."""
