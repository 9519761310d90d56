"""Recipes: combinations of methods, and the artifacts built from them."""
