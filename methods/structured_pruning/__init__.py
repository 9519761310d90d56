"""Whole layers, heads and columns go."""
