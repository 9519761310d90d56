"""Recipes: methods combined, and the artifacts that they make."""
