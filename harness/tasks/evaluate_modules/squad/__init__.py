"""The `evaluate` module `squad`."""
