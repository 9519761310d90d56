"""Methods that remove word-vectors (token states) between layers."""
