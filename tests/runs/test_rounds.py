"""The local engine profiles artifacts soon after it trained them, in rounds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from harness.records.cells import Cell, ProfileCell
from harness.records.store import Store
from harness.runs.engines import local
from harness.runs.job import Job
from harness.runs.planning import resolve_cells
from harness.runs.record_making import make_record
from harness.runs.suites import Experiment, Profiling, Suite

RECIPES = tuple(f"magnitude:sparsity=0.{number}" for number in (1, 2, 3, 4, 6))


def test_profiles_follow_the_round_that_made_their_artifacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = Suite(
        title="mine",
        model="tiny",
        profile_model="tiny",
        profiling=(Profiling(recipes=("dynamic-int8",)),),
        experiments=(Experiment(tasks=("toy-pairs",), recipes=RECIPES),),
    )
    done: list[Cell] = []

    def pretend(_: Any, job: Job, *more: Any) -> Any:
        done.append(job.cell)
        return make_record(
            job.cell, job.recipe, job.fingerprint, job.hardware, time.time(), "skipped", "not run"
        )

    monkeypatch.setattr(local.LocalEngine, "_quality", pretend)
    monkeypatch.setattr(local.LocalEngine, "_profile", pretend)
    records = local.LocalEngine(Store(tmp_path), None).run(resolve_cells(suite.cells()))
    assert len(records) == len(done) == 6 + 6 + 2
    kinds = "".join("p" if isinstance(cell, ProfileCell) else "q" for cell in done)
    assert local.ROUND == 4
    assert kinds == "qqqq" + "pppp" + "qq" + "pp" + "pp"
    trained = {cell.recipe for cell in done[:4]}
    assert {cell.recipe for cell in done[4:8]} == trained
    assert [cell.task for cell in done[-2:]] == [None, None], "untrained artifacts come last"
