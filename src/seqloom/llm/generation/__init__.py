"""Language models that write textual IDs: prefix trees, beam search, likelihoods."""
