"""From requests to lists: models, micro-batches, the live catalogue, the cascade."""
