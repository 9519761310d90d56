"""A plan reads each recipe, task, runtime and machine of its cells once, and nothing after it reads them again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.common.errors import Code, Unsupported
from harness.recipes import compatibility
from harness.recipes.recipe import Recipe
from harness.records.cells import Cell, ProfileCell
from harness.records.schema import Workload
from harness.records.store import Store
from harness.runs import resolution
from harness.runs.engines import local
from harness.runs.engines.local import LocalEngine, built_on
from harness.runs.job import supports
from harness.runs.planning import count_trainings, make_plan, resolve_cells
from harness.runs.record_making import make_record
from harness.runs.resolution import Resolver
from harness.runs.suites import Experiment, Suite

RECIPES = ("magnitude > dynamic-int8", "kd-logits:layers=1")
SEEDS = (0, 1, 2)
DISTINCT = 4
"""Recipes with their parents: baseline, magnitude, both of `RECIPES`."""


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def cells() -> list[Cell]:
    experiment = Experiment(tasks=("toy-pairs",), recipes=RECIPES, seeds=SEEDS)
    return Suite(title="mine", model="bert-tiny", experiments=(experiment,)).cells()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts of reads from now on, in all modules of the harness."""
    found: Counter[str] = Counter()

    def counted(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            found[name] += 1
            return plain(*args, **kwargs)

        return call

    monkeypatch.setattr(Recipe, "parse", counted("recipe", Recipe.parse))
    homes = {
        "load_task": ("harness.runs.resolution", "harness.recipes.builder", "harness.tasks"),
        "hardware": (
            "harness.runs.resolution",
            "harness.records.store",
            "harness.profiling.profile",
            "harness.common.hardware",
        ),
        "get_runtime": (
            "harness.runs.resolution",
            "harness.profiling.profile",
            "harness.runtimes",
        ),
        "artifact_fingerprint": ("harness.runs.resolution", "harness.recipes.builder"),
    }
    for name, modules in homes.items():
        plain = getattr(resolution, name)
        for module in modules:
            monkeypatch.setattr(f"{module}.{name}", counted(name, plain))
    return found


def test_a_plan_reads_each_thing_once(cells: list[Cell], asked: Counter[str], tmp_path: Path) -> None:
    store = Store(tmp_path)
    plan = make_plan(resolve_cells(cells), store)
    assert count_trainings(plan, store) == 3 * len(SEEDS)
    assert len(plan.jobs) == len(cells) == DISTINCT * len(SEEDS) + DISTINCT
    assert asked == {
        "recipe": DISTINCT,
        "load_task": 1,
        "hardware": 1,
        "get_runtime": 1,
        "artifact_fingerprint": DISTINCT * len(SEEDS),
    }


def test_a_run_reads_nothing_again(
    cells: list[Cell], asked: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(job: Any, *_: object) -> Any:
        return make_record(
            job.cell, job.recipe, job.fingerprint, job.hardware, time.time(), "failed", "it was not tried"
        )

    monkeypatch.setattr(local, "execute_profile", ended)
    monkeypatch.setattr(LocalEngine, "_quality", lambda self, job: self._skipped(job) or ended(job))
    store = Store(tmp_path)
    jobs = resolve_cells(cells)
    asked.clear()
    with store.lock():
        records = LocalEngine(store, None, sittings=2, workers=2).run(make_plan(jobs, store).jobs)
    assert len(records) == len(cells)
    assert asked == {}


def test_the_lineage_is_what_the_artifact_is_built_on(cells: list[Cell]) -> None:
    by_recipe = {(job.cell.recipe, isinstance(job.cell, ProfileCell)): job for job in resolve_cells(cells)}
    score, profile = by_recipe[RECIPES[0], False], by_recipe[RECIPES[0], True]
    assert [str(build.recipe) for build in score.lineage] == [RECIPES[0], "magnitude", "baseline"]
    assert [build.trains for build in score.lineage] == [False, True, True]
    assert by_recipe["magnitude", False].lineage == score.lineage[1:] == built_on(score)
    untrained = Resolver().job(ProfileCell(recipe=RECIPES[0], model="bert-tiny"))
    assert len(untrained.lineage) == 1
    assert built_on(untrained) == ()
    assert profile.fingerprint != score.fingerprint


def test_the_shape_is_that_of_the_recipe_with_the_tasks_head() -> None:
    (job,) = resolve_cells([ProfileCell(recipe="kd-logits:layers=1", model="bert-tiny")])
    assert len(job.base.layers) == 2
    assert len(job.shape.layers) == 1  # type: ignore[union-attr]


def profile_cell(**changes: Any) -> ProfileCell:
    return ProfileCell(**{"recipe": "baseline", "model": "bert-tiny", **changes})


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        (profile_cell(), None),
        (profile_cell(device="tpu"), Code.UNKNOWN_NAME),
        (profile_cell(workload=Workload(length=513)), Code.TOO_LONG),
        (profile_cell(runtime="compile", workload=Workload(length=12, cached=8)), Code.UNSUPPORTED),
    ],
)
def test_there_is_one_answer_to_whether_a_job_can_run(cell: ProfileCell, code: Code | None) -> None:
    job = Resolver().job(cell)
    answer = supports(job)
    assert (None if answer is None else answer.code) is code
    assert (job.unsupported is not None) is isinstance(answer, Unsupported) is (code is Code.UNSUPPORTED)


def test_a_mistake_of_the_user_comes_before_a_limit_of_the_runtime() -> None:
    # CUDA graphs cannot let rows exit early, but the device is wrong first.
    answer = supports(Resolver().job(profile_cell(recipe="deebert:threshold=0.3", runtime="cuda-graphs")))
    assert answer is not None
    assert not isinstance(answer, Unsupported)


def test_the_shape_of_a_recipe_is_found_once_for_all_seeds(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    plain = compatibility.shape_after

    def shape_after(recipe: Recipe, *rest: Any) -> Any:
        found.append(str(recipe))
        return plain(recipe, *rest)

    monkeypatch.setattr(resolution, "shape_after", shape_after)
    resolve_cells(cells)
    # Without the task's head and with it.
    assert Counter(found) == dict.fromkeys({cell.recipe for cell in cells}, 2)
