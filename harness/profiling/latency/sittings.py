"""Sittings: the pairs of a profile are taken in parts, and other profiles are measured between them.

A ratio drifts with the load of the host's other guests: of two runs of 12 s in a row, some medians lay further apart
than either interval was wide. Pairs taken minutes apart sample more than one such phase. If intervals stay wide on a
noisy machine, further sittings repeat those profiles for as long as the user allows.
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
"""The half-width of an interval, as a share of the ratio, above which a profile gets further sittings."""


@dataclass(frozen=True)
class Sitting:
    """The pairs of a cell so far, the seconds booked by kind of work, and the seconds of all sittings."""

    times: PairedTimes
    watch: Stopwatch
    whole_s: float

    @property
    def half_width(self) -> float:
        """Half the width of the present interval, as a share of the ratio; infinite with too few pairs."""
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
    """Time pairs of a cell's artifact in `folder` and its baseline for a `share` of the cell's time cap.

    The result includes the sittings `before`. Raises the errors of `measure_speed`.
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
