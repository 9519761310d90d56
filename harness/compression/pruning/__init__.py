"""Masks, schedules and importance scores of pruning methods."""
