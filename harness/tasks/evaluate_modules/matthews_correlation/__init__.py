"""The `evaluate` module `matthews_correlation`."""
