"""The `evaluate` module `f1`."""
