"""Engines: they run the jobs of a run."""
