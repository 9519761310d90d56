"""What a cell costs beyond its own timed passes and the making and loading of its models: at most 0.5 s, once a run is
under way (its server of processes runs, and the baseline is measured).
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from harness.recipes.recipe import Recipe
from harness.records.cells import ProfileCell
from harness.records.schema import Spent, Workload
from harness.runs.planning import resolve_cells
from harness.runs.profile_run import ProfileRun, execute_profile

pytestmark = [pytest.mark.timed, pytest.mark.slow]
LIMIT_S = 0.5


@pytest.mark.parametrize("size", ["as published", "tiny"])
def test_overhead_of_a_cell(
    size: str, benchmark: Any, scale: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tiny = size == "tiny" or request.config.getoption("--benchmark-tiny")
    model, dropped = ("bert-tiny", 1) if tiny else (scale.model, scale.half_its_layers)
    recipe = str(Recipe.parse(f"layer-drop:drop={dropped}"))
    cap_s = min(4.0, scale.cap_s)
    found: list[Spent] = []

    def cell(run: ProfileRun, recipe: str, length: int) -> Spent:
        workload = Workload(batch=1, length=length)
        measured = ProfileCell(recipe=recipe, model=model, workload=workload, time_cap_s=cap_s)
        (job,) = resolve_cells([measured])
        spent = execute_profile(job, run).provenance.spent
        assert spent is not None
        return spent

    with ProfileRun(tmp_path) as run:
        cell(run, "baseline", 128)
        # The first has to make the artifact too, the others find it.
        benchmark.pedantic(lambda: found.append(cell(run, recipe, 128)), rounds=min(3, scale.rounds))
        other = cell(run, recipe, 96)
    figures = {
        "model": model,
        "overhead_s": round(statistics.median(spent.overhead for spent in found), 3),
        "limit_s": LIMIT_S,
        "first_cell": found[0].model_dump(),
        "last_cell": found[-1].model_dump(),
        "cell_of_another_workload": other.model_dump(),
    }
    print(figures)
    benchmark.extra_info.update(figures)
