"""Artifacts that are built before any of them is timed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import isolation
from harness.cells import ProfileCell
from harness.execute import ProfileRun
from harness.prebuilding import build_ahead, untrained_artifacts
from harness.profiling.stopwatch import Stopwatch
from harness.recipe import Recipe
from harness.records import Workload


def cell(recipe: str, runtime: str = "eager") -> ProfileCell:
    return ProfileCell(
        recipe=str(Recipe.parse(recipe)),
        model="bert-tiny",
        runtime=runtime,
        workload=Workload(batch=1, length=8),
    )


def test_each_artifact_is_built_once_for_all_its_profiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [cell("dynamic-int8"), cell("dynamic-int8", "openvino"), cell("magnitude:sparsity=0.6")]
    wanted = untrained_artifacts(cells)
    assert [each.recipe for each in wanted] == ["baseline", "dynamic-int8", "magnitude:sparsity=0.6"]
    with ProfileRun(tmp_path) as run:
        build_ahead(wanted, run, 2)

        def refuse(*_: object) -> None:
            raise AssertionError("it was built again")

        monkeypatch.setattr(isolation, "run_isolated", refuse)
        made = [run.make(each, None, 1, Stopwatch()) for each in cells]
    assert made[0] == made[1]
    assert made[0].folder != made[2].folder
    assert made[0].baseline == made[2].baseline
    assert all((each.folder / "weights.safetensors").is_file() for each in made)


def test_what_cannot_be_built_is_left_to_its_own_cell(tmp_path: Path) -> None:
    # The file stands where the workspace's folder of artifacts should be.
    (tmp_path / "untrained").write_text("in the way", encoding="utf-8")
    with ProfileRun(tmp_path) as run:
        build_ahead(untrained_artifacts([cell("dynamic-int8")]), run, 2)
        with pytest.raises(isolation.IsolationError):
            run.make(cell("dynamic-int8"), None, 1, Stopwatch())
