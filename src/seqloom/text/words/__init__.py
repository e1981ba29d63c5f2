"""Texts as bags of words, and their vectors as sums of word vectors."""
