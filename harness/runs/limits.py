"""Limits of the numbers that a user gives on the command line or in a suite."""

from __future__ import annotations

from harness.common.errors import Code, SkylineError

MAX_SEED = 2**32 - 1
"""The largest seed that all random generators accept."""
MAX_SEEDS = 1000
"""Seeds per experiment."""
MAX_BATCH = 65536
"""Sequences per forward pass."""
MIN_TIME_CAP_S, MAX_TIME_CAP_S = 0.1, 3600.0
"""Seconds for the paired timing of one profile."""
MAX_SITTINGS = 100
"""Sittings per profile (see `harness.profiling.latency.sittings`)."""
MAX_FURTHER_MIN = 24 * 60.0
"""Minutes for further sittings, for all profiles of a run together."""


def within(option: str, value: float, low: float, high: float) -> None:
    """Check that `value` of the command's option `--option` lies between `low` and `high`, both included.

    Raises SkylineError (`out-of-range`) if it does not, or if it is NaN.
    """
    if not low <= value <= high:
        raise SkylineError(f"--{option} {value} is out of range: use {low:,} to {high:,}", Code.OUT_OF_RANGE)
