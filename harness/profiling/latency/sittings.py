"""Sittings: the pairs of a profile, taken in parts between which others are profiled.

A ratio drifts with what the host's neighbours do: of two runs of 12 s in a row, some rows' medians lay further apart
than either interval is wide. Pairs from minutes apart meet more than one such phase. Where a restless machine leaves
intervals wide, further sittings go round those profiles for as long as the user allows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from harness.profiling.inputs import Inputs
from harness.profiling.latency.paired import measure_speed
from harness.profiling.latency.pairs import PairedTimes, Plan
from harness.profiling.stopwatch import Stopwatch
from harness.records.cells import ProfileCell
from harness.runtimes import Execution, Runtime

WIDE = 0.02
"""The half-width of an interval, as a share of the ratio, above which further sittings are of use."""


@dataclass(frozen=True)
class Sitting:
    """The pairs of a cell so far, what their time went to, and the seconds that all of it took."""

    times: PairedTimes
    watch: Stopwatch
    whole_s: float

    @property
    def half_width(self) -> float:
        """Of the interval that the pairs so far give; infinite with too few of them."""
        interval = self.times.interval
        return float("inf") if interval is None else interval.half_width


def takes_sittings(runtime: Runtime) -> bool:
    """Whether a runtime loads an artifact in little time, so that it can be loaded again for each sitting."""
    return not (runtime.prepares or runtime.compiles)


def take_sitting(
    cell: ProfileCell,
    folder: Path,
    baseline: Path,
    inputs: Inputs,
    share: float,
    before: Sitting | None = None,
) -> Sitting:
    """Time pairs of a cell's artifact in `folder` and of its baseline for a `share` of the cell's time cap.

    Raises what `measure_speed` raises.
    """
    began, watch = time.perf_counter(), Stopwatch()
    candidate = Execution(folder.resolve(), cell.runtime, cell.device, cell.precision)
    reference = Execution(baseline.resolve(), cell.runtime, cell.device)
    speed = measure_speed(
        candidate,
        reference,
        inputs,
        plan=Plan(cap_s=share * cell.time_cap_s),
        components=False,
        earlier=None if before is None else before.times,
        watch=watch,
    )
    if before is not None:
        watch.add(before.watch)
    whole_s = time.perf_counter() - began + (0.0 if before is None else before.whole_s)
    return Sitting(speed.times, watch, whole_s)
