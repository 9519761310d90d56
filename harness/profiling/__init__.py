"""Profiling: the FLOPs, bytes, time and memory of an artifact, in total and by component."""
