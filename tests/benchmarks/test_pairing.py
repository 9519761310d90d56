"""What pairing buys: the same cells timed in pairs, and unpaired as the means of separate processes, on a quiet machine
and beside a process that loads it.

Both get the same number of passes. Printed a case: the speedup (median over the repeats), its spread over them (largest
less smallest, as a share of the median), and the largest error against the quiet paired figure.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from tabulate import tabulate

from harness.common.hardware import hardware
from harness.profiling.inputs import Inputs, make_workload
from harness.profiling.latency.noise import busy_process
from harness.profiling.latency.paired import measure_speed
from harness.profiling.latency.pairs import Plan
from harness.profiling.latency.unpaired import measure_unpaired
from harness.recipes.builder import build_untrained
from harness.recipes.recipe import Recipe
from harness.runtimes import Execution

pytestmark = [pytest.mark.timed, pytest.mark.slow]
LOADS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"quiet": (0.0, 100.0), "one core always": (1.0, 100.0), "one core, 5 s on and 5 s off": (0.5, 10_000.0)}
)
"""Share of time in which another process computes, and its period in ms."""
FEWEST_PASSES = 10


@dataclass(frozen=True)
class Case:
    """The speedups of one way of timing under one load; `refused` counts paired runs that gave no verdict."""

    load: str
    timed: str
    speedup: float | None
    spread_pct: float | None
    worst_error_pct: float | None
    refused: int
    speedups: tuple[float, ...]


def case(load: str, timed: str, found: Sequence[float | None], reference: float | None) -> Case:
    """Sum up repeats, of which None are those without a verdict."""
    told = [speedup for speedup in found if speedup is not None]
    if not told:
        return Case(load, timed, None, None, None, len(found), ())
    middle = statistics.median(told)
    worst = None if reference is None else max(100 * abs(each / reference - 1) for each in told)
    spread = 100 * (max(told) - min(told)) / middle
    return Case(load, timed, middle, spread, worst, len(found) - len(told), tuple(told))


def test_summing_up_repeats() -> None:
    found = case("quiet", "paired", [2.0, 2.2, None, 1.9], 2.0)
    assert (found.speedup, found.refused, found.speedups) == (2.0, 1, (2.0, 2.2, 1.9))
    assert found.spread_pct == pytest.approx(15.0)
    assert found.worst_error_pct == pytest.approx(10.0)
    assert case("quiet", "paired", [None], 2.0).speedup is None


@pytest.mark.parametrize("recipe", ["kd-logits:layers={half}", "dynamic-int8"], ids=["half", "int8"])
def test_paired_beside_unpaired(recipe: str, benchmark: Any, scale: Any, tmp_path: Path) -> None:
    parsed = Recipe.parse(recipe.format(half=scale.half_its_layers))
    candidate = Execution(build_untrained(parsed, scale.model, tmp_path)[0])
    baseline = Execution(build_untrained(Recipe(), scale.model, tmp_path)[0])
    inputs = Inputs.of(make_workload(length=128, batch=1))
    paired: dict[str, list[float | None]] = {load: [] for load in LOADS}
    unpaired: dict[str, list[float | None]] = {load: [] for load in LOADS}

    def measure() -> None:
        passes = 0
        for load, (duty, period_ms) in LOADS.items():
            for number in range(scale.rounds):
                plan = Plan(cap_s=scale.cap_s, seed=number)
                with busy_process(duty, period_ms):
                    timed = measure_speed(candidate, baseline, inputs, plan=plan, components=False)
                    # As many as the first quiet pairs took: both ways cost the same.
                    passes = passes or max(FEWEST_PASSES, len(timed.passes))
                    alone = measure_unpaired(candidate, baseline, inputs, passes)
                paired[load].append(timed.latency.speedup)
                unpaired[load].append(alone.speedup)

    benchmark.pedantic(measure, rounds=1)
    reference = case("quiet", "paired", paired["quiet"], None).speedup
    cases = [
        case(load, timed, found[load], reference)
        for load in LOADS
        for timed, found in (("paired", paired), ("unpaired", unpaired))
    ]
    assert all(len(each.speedups) + each.refused == scale.rounds for each in cases)
    assert all(speedup > 0 for each in cases for speedup in each.speedups)
    shown = [[getattr(each, name) for name in list(Case.__annotations__)[:-1]] for each in cases]
    heads = ["load", "timed", "speedup", "spread %", "largest error %", "no verdict"]
    print(f"\n{parsed} on {scale.model}, {scale.rounds} repeats\n")
    print(tabulate(shown, headers=heads, floatfmt=".2f", missingval="–"))
    benchmark.extra_info.update(
        {"recipe": str(parsed), "cases": [asdict(each) for each in cases], "hardware": hardware().id}
    )
