"""Text encoders that are tuned by the log: their models, training phases and files."""
