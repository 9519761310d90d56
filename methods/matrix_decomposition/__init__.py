"""Matrices become products of thinner ones."""
