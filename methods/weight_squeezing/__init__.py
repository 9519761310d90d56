"""Methods that make small weights by a learned map of large ones."""
