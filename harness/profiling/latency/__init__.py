"""Paired latency: timers, pairs, statistics and sittings."""
