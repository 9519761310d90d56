"""Boards: rows from records or published tables, with ranks, fronts and intervals."""
