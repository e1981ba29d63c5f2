"""Reranks the best items of a list by a language model that reads titles."""
