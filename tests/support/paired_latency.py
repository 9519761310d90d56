"""Records of paired runs, as inputs for tests."""

from __future__ import annotations

from typing import Any

from harness.profiling.latency.pairs import PairedTimes
from harness.records.schema import Latency

NO_PAIRS = PairedTimes((), (), None, "all", False, None, "time")


def paired_latency(**figures: Any) -> Latency:
    """Make the record of a candidate that is twice as fast as its baseline, except for the given figures."""
    usual: dict[str, Any] = {
        "median_ms": 1.0,
        "p10_ms": None,
        "p90_ms": None,
        "baseline_median_ms": 2.0,
        "samples": 50,
        "disturbed": 1,
        "speedup": 2.0,
        "speedup_ci95": (1.9, 2.1),
        "verdict": "measured",
        "aa_floor": 0.01,
        "stopped_by": "precision",
        "threads": 2,
    }
    return Latency(**{**usual, **figures})


def without_verdict(low: float, high: float) -> Latency:
    """Make the record of a run whose interval stayed too wide."""
    return paired_latency(speedup=None, speedup_ci95=(low, high), verdict="none", stopped_by="time")
