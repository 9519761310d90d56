"""Profiling: what an artifact costs in FLOPs, bytes, time and memory, as a whole and by component."""
