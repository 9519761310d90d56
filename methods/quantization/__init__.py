"""Fewer bits a weight, or an activation."""
