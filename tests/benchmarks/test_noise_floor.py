"""A/A: a model against itself, on a machine that should be quiet and beside a process that keeps a core busy
half of the time.

The ratios of quiet runs are to lie within ±2 %; beside load, intervals are to hold 1 or to be too wide for a
verdict.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.common.hardware import hardware
from harness.profiling.inputs import Inputs, make_workload
from harness.profiling.latency.noise import busy_process, run_pairs, summary
from harness.profiling.latency.pairs import Plan
from harness.recipes.builder import build_untrained
from harness.recipes.recipe import Recipe

pytestmark = [pytest.mark.timed, pytest.mark.slow]
PERIOD_MS = 100.0


@pytest.mark.parametrize("duty", [0.0, 0.5], ids=["quiet", "busy"])
def test_against_itself(duty: float, benchmark: Any, scale: Any, tmp_path: Path) -> None:
    folder, _ = build_untrained(Recipe(), scale.model, tmp_path)
    inputs = Inputs.of(make_workload(length=128, batch=1))

    def measure() -> list[Any]:
        with busy_process(duty, PERIOD_MS):
            return list(run_pairs(folder, inputs, scale.aa_runs, Plan(cap_s=scale.cap_s)))

    found = benchmark.pedantic(measure, rounds=1)
    figures = summary([latency for latency, _ in found])
    assert figures["runs"] == scale.aa_runs
    ratios = [latency.speedup for latency, _ in found]
    longest = max(wall for _, wall in found)
    figures |= {"duty": duty, "ratios": ratios, "longest_run_s": longest, "hardware": hardware().id}
    print(figures)
    benchmark.extra_info.update(figures)
