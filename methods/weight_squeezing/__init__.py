"""Small weights that are a learned map of large ones."""
