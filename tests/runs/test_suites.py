"""The built-in suites: every recipe that they name can be built, as far as that is known before training."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.recipes.recipe import Recipe
from harness.records.cells import ProfileCell
from harness.records.schema import Workload
from harness.runs.limits import MAX_BATCH
from harness.runs.resolution import check_recipe
from harness.runs.suites import Experiment, Profiling, Suite, load_suite, suite_names, with_parents
from leaderboard.findings.statements import FINDINGS

SUITES = suite_names()


def named(name: str) -> list[tuple[str, str]]:
    """The recipes of a suite, each with the model that it is built from."""
    suite = load_suite(name)
    trained = [(recipe, suite.model) for each in suite.experiments for recipe in each.recipes]
    profiled = [(recipe, suite.profile_model) for each in suite.profiling for recipe in each.recipes]
    return list(dict.fromkeys(trained + profiled))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize(("recipe", "model"), [pair for name in SUITES for pair in named(name)])
def test_every_recipe_is_accepted(recipe: str, model: str) -> None:
    for parent in with_parents([recipe]):
        check_recipe(parent, model)


@pytest.mark.parametrize("name", SUITES)
def test_no_table_lists_a_recipe_twice(name: str) -> None:
    suite = load_suite(name)
    for table in (*suite.experiments, *suite.profiling):
        assert len(set(table.recipes)) == len(table.recipes)


def test_a_profiling_has_runtimes_precisions_and_a_time_cap_of_its_own() -> None:
    suite = Suite(
        title="t",
        time_cap_s=1.0,
        profiling=(
            Profiling(recipes=("dynamic-int8",)),
            Profiling(
                recipes=("magnitude",), runtimes=("eager", "openvino"), precisions=("int8",), time_cap_s=2.0
            ),
        ),
    )
    found = {
        (cell.recipe, cell.runtime, cell.precision, cell.time_cap_s)
        for cell in suite.cells()
        if isinstance(cell, ProfileCell)
    }
    # One profile of the baseline serves both tables, so it has the suite's time cap.
    assert found == {
        ("baseline", "eager", "float32", 1.0),
        ("dynamic-int8", "eager", "float32", 1.0),
        ("baseline", "eager", "int8", 1.0),
        ("magnitude", "eager", "int8", 2.0),
        ("baseline", "openvino", "int8", 1.0),
        ("magnitude", "openvino", "int8", 2.0),
    }


def test_the_measured_suite_records_what_the_findings_compare() -> None:
    recipes = {str(Recipe.parse(recipe)) for recipe, _ in named("measured")}
    compared = {
        str(Recipe.parse(recipe))
        for finding in FINDINGS
        for comparison in finding.comparisons
        for recipe in (comparison.first, comparison.second)
    }
    assert compared - recipes == set()


def test_a_workload_has_no_more_rows_than_the_command_allows() -> None:
    whole = {"tasks": ("sst2",), "recipes": ("magnitude",)}
    assert Experiment(**whole, workloads=(Workload(batch=MAX_BATCH),)).workloads[0].batch == MAX_BATCH
    with pytest.raises(ValidationError):
        Experiment(**whole, workloads=(Workload(batch=MAX_BATCH + 1),))
