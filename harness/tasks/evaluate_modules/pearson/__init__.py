"""The `evaluate` module `pearson`."""
