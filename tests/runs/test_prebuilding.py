"""Untrained artifacts are built, and their FLOPs and bytes counted, before any of them is timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.common import processes as isolation
from harness.profiling import profile
from harness.profiling.inputs import Inputs
from harness.profiling.stopwatch import Stopwatch
from harness.recipes.recipe import Recipe
from harness.records.cells import ProfileCell
from harness.records.schema import Workload
from harness.records.store import Store
from harness.runs.engines.local import LocalEngine
from harness.runs.planning import resolve_cells
from harness.runs.prebuilding import build_ahead, untrained_artifacts
from harness.runs.profile_run import ProfileRun, execute_profile


def cell(recipe: str, runtime: str = "eager", length: int = 8) -> ProfileCell:
    return ProfileCell(
        recipe=str(Recipe.parse(recipe)),
        model="bert-tiny",
        runtime=runtime,
        workload=Workload(batch=1, length=length),
        time_cap_s=0.2,
    )


def test_each_artifact_is_built_once_for_all_its_profiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [cell("dynamic-int8"), cell("dynamic-int8", "openvino"), cell("magnitude:sparsity=0.6")]
    recipes = [profiles[0].recipe for profiles in untrained_artifacts(cells)]
    assert recipes == ["baseline", "dynamic-int8", "magnitude:sparsity=0.6"]
    with ProfileRun(tmp_path) as run:
        build_ahead(cells, run, 2)

        def refuse(*_: object) -> None:
            raise AssertionError("it was built again")

        monkeypatch.setattr(isolation, "run_isolated", refuse)
        made = [run.make(each, 1, Stopwatch()) for each in cells]
    assert made[0] == made[1]
    assert made[0].folder != made[2].folder
    assert made[0].baseline == made[2].baseline
    assert all((each.folder / "weights.safetensors").is_file() for each in made)


def test_what_cannot_be_built_is_left_to_its_own_cell(tmp_path: Path) -> None:
    # This file takes the name of the workspace's folder of artifacts.
    (tmp_path / "untrained").write_text("in the way", encoding="utf-8")
    with ProfileRun(tmp_path) as run:
        build_ahead([cell("dynamic-int8")], run, 2)
        with pytest.raises(isolation.IsolationError):
            run.make(cell("dynamic-int8"), 1, Stopwatch())


def test_a_baseline_is_measured_on_the_workloads_of_all() -> None:
    cells = [
        cell("dynamic-int8"),
        cell("dynamic-int8", length=16),
        cell("dynamic-int8", "openvino"),
        cell("svd", length=4),
    ]
    lengths = {
        profiles[0].recipe: [profile.workload.length for profile in profiles]
        for profiles in untrained_artifacts(cells)
    }
    assert lengths == {"baseline": [8, 16, 4], "dynamic-int8": [8, 16], "svd": [4]}


def test_what_is_counted_ahead_is_not_counted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [cell("dynamic-int8"), cell("dynamic-int8", length=10_000)]  # the second: beyond its positions
    with ProfileRun(tmp_path) as run:
        build_ahead(cells, run, 2)

        def refuse(*_: object) -> None:
            raise AssertionError("it was counted again")

        made = run.make(cells[0], 1, Stopwatch())
        expected = profile.static_costs(made.folder, Inputs.of(cells[0].workload))
        monkeypatch.setattr(profile, "static_costs", refuse)
        record = execute_profile(resolve_cells(cells[:1])[0], run)
    assert record.profile is not None
    assert record.profile.total.flops == expected.work.total.flops > 0


def test_rows_of_a_task_are_counted_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []
    count = ProfileRun.count

    def noted(run: ProfileRun, cell: ProfileCell, *rest: Any) -> None:
        asked.append((cell.recipe, cell.workload.task))
        count(run, cell, *rest)

    monkeypatch.setattr(ProfileRun, "count", noted)
    workload = Workload(batch=1, length=8, inputs="real", task="toy-sentiment")
    wanted = ProfileCell(recipe="layer-drop:drop=1", model="bert-tiny", workload=workload, time_cap_s=0.2)
    engine = LocalEngine(Store(tmp_path), None, workers=2)
    with engine.store.lock():
        record = engine.run(resolve_cells([wanted]))[0]
    assert record.status == "ok"
    assert asked == [("baseline", "toy-sentiment"), ("layer-drop:drop=1", "toy-sentiment")]
