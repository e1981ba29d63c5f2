"""Raw interaction logs to prepared data sets, and prepared data sets to batches."""
