"""Language models that generate textual IDs: prefix trees, beam search, likelihoods."""
