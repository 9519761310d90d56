"""`evaluate` modules of our own: one folder each, loaded by path, so that they work offline."""
