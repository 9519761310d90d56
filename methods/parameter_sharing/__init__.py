"""Layers that use the same weights."""
