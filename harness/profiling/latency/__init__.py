"""Paired latency: timers, pairs, statistics, sittings."""
