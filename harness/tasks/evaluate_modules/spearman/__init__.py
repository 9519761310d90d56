"""The `evaluate` module `spearman`."""
