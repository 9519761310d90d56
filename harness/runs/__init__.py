"""Runs: resolve the cells of a suite into jobs, run those whose record is missing or stale, and write their records."""
