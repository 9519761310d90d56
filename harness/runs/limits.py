"""How far the numbers may go that a user gives on the command line or in a suite."""

from __future__ import annotations

from harness.common.errors import Code, SkylineError

MAX_SEED = 2**32 - 1
"""The largest seed that every generator takes."""
MAX_SEEDS = 1000
"""Seeds of one experiment."""
MAX_BATCH = 65536
"""Sequences in one pass."""
MIN_TIME_CAP_S, MAX_TIME_CAP_S = 0.1, 3600.0
"""Seconds for the paired timing of one profile."""
MAX_SITTINGS = 100
"""Parts of the paired timing of one profile."""
MAX_FURTHER_MIN = 24 * 60.0
"""Minutes of further parts, of all profiles of a run."""


def within(option: str, value: float, low: float, high: float) -> None:
    """Raise SkylineError if the value of a command's option is out of range or NaN."""
    if not low <= value <= high:
        raise SkylineError(f"--{option} {value} is out of range: use {low:,} to {high:,}", Code.OUT_OF_RANGE)
