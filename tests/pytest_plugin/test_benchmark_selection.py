"""The cells that `pytest --benchmark` measures, their names, and the durations that pytest-benchmark gets."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.common.errors import Code
from harness.pytest_plugin.replay import Recording
from harness.pytest_plugin.selection import (
    Selection,
    adapter_files_of,
    execution_text,
    label,
    method_id,
    parse_execution,
    parse_workload,
    usual_recipes,
    workload_text,
)
from harness.recipes.discovery import FILES, discover
from harness.records.cells import ProfileCell
from harness.records.schema import PRECISIONS
from harness.runs.limits import MAX_BATCH
from harness.runs.planning import resolve_cells
from harness.runtimes import runtime_names
from tests.support.adapter_files import METHOD, written
from tests.support.one_line_errors import refused

TINY = Selection(recipes=("baseline",), model="bert-tiny", workloads=("1x16",), time_cap_s=0.5)


def test_every_recipe_runtime_and_workload_is_a_cell_once() -> None:
    recipes = ("baseline", "dynamic-int8", "magnitude:sparsity=0.6", "dynamic-int8")
    chosen = replace(
        TINY, recipes=recipes, runtimes=("eager", "eager:int8"), workloads=("1x16", "2x8", "1x16")
    )
    cells = chosen.cells()
    expected = set(product(recipes, ("float32", "int8"), ((1, 16), (2, 8))))
    assert {(c.recipe, c.precision, (c.workload.batch, c.workload.length)) for c in cells} == expected
    assert len(cells) == len(expected)
    assert {(c.model, c.device, c.time_cap_s, c.task) for c in cells} == {("bert-tiny", "cpu", 0.5, None)}
    assert len({label(cell) for cell in cells}) == len(cells)


def test_a_cell_has_one_name_however_it_is_written() -> None:
    one, other = "magnitude:sparsity=0.6 > dynamic-int8", " magnitude : sparsity=0.60>dynamic-int8"
    names = [label(cell) for text in (one, other) for cell in replace(TINY, recipes=(text,)).cells()]
    assert names == ["magnitude:sparsity=0.6>dynamic-int8-eager-1x16-bert-tiny-cpu"] * 2


@given(
    st.sampled_from(runtime_names()),
    st.sampled_from(PRECISIONS),
    st.integers(1, MAX_BATCH),
    st.integers(1, 9999),
)
def test_what_names_a_cell_reads_back(runtime: str, precision: Any, batch: int, length: int) -> None:
    workload = parse_workload(f"{batch}x{length}")
    assert (workload.batch, workload.length) == (batch, length)
    assert parse_execution(f"{runtime}:{precision}") == (runtime, precision)
    cell = ProfileCell(
        recipe="baseline", model="bert-tiny", runtime=runtime, precision=precision, workload=workload
    )
    assert parse_execution(execution_text(cell)) == (runtime, precision)
    assert parse_workload(workload_text(cell)) == workload


@pytest.mark.parametrize(("model", "half"), [("bert-base", 6), ("bert-tiny", 1), ("bert-large", 12)])
def test_the_usual_recipes_halve_the_layers_of_their_model(model: str, half: int) -> None:
    assert f"kd-logits:layers={half}" in map(str, usual_recipes(model))
    cells = replace(TINY, recipes=(), model=model).cells()
    assert [cell.recipe for cell in cells] == list(map(str, usual_recipes(model)))
    assert cells[0].recipe == "baseline"


def test_a_method_is_measured_with_its_defaults_unless_a_recipe_uses_it() -> None:
    named = replace(
        TINY, recipes=("baseline", "magnitude:sparsity=0.9"), methods=("magnitude", "dynamic-int8")
    )
    assert [cell.recipe for cell in named.cells()] == ["baseline", "magnitude:sparsity=0.9", "dynamic-int8"]
    alone = replace(TINY, recipes=(), methods=("dynamic-int8",))
    assert [cell.recipe for cell in alone.cells()] == ["dynamic-int8"]


@pytest.mark.parametrize(
    ("asked", "code", "name"),
    [
        ({"runtimes": ("onnxruntim",)}, Code.UNKNOWN_NAME, "'onnxruntime'"),
        ({"runtimes": ("eager:int9",)}, Code.UNKNOWN_NAME, "'int8'"),
        ({"runtimes": ("eager:",)}, Code.UNKNOWN_NAME, "float32"),
        ({"workloads": ("128",)}, Code.INVALID, "'128'"),
        ({"workloads": ("0x128",)}, Code.OUT_OF_RANGE, "0"),
        ({"workloads": ("1x0",)}, Code.OUT_OF_RANGE, "0"),
        ({"workloads": (f"{MAX_BATCH + 1}x1",)}, Code.OUT_OF_RANGE, str(MAX_BATCH + 1)),
        ({"workloads": ("1x513",)}, Code.TOO_LONG, "512"),
        ({"recipes": ("dynamic-int9",)}, Code.UNKNOWN_NAME, "'dynamic-int8'"),
        ({"recipes": ("magnitude:sparsity=2",)}, "out of range", "sparsity=2"),
        ({"methods": ("magnitud",)}, Code.UNKNOWN_NAME, "'magnitude'"),
        ({"model": "bert-bas"}, Code.UNKNOWN_NAME, "bert-base"),
        ({"device": "gpu"}, Code.UNKNOWN_NAME, "cuda"),
        ({"time_cap_s": 0.0}, Code.OUT_OF_RANGE, "--benchmark-time-cap 0.0"),
        ({"time_cap_s": float("nan")}, Code.OUT_OF_RANGE, "--benchmark-time-cap nan"),
    ],
)
def test_a_mistake_in_the_options_is_one_line(asked: dict[str, Any], code: Code | str, name: str) -> None:
    with refused(code, name):
        resolve_cells(replace(TINY, **asked).cells())


def test_a_method_can_be_given_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    assert adapter_files_of(["leave_alone.py", "magnitude", str(path)], tmp_path) == [path.resolve()]
    with refused(Code.UNKNOWN_NAME, "'leave-alone'"):
        replace(TINY, recipes=("leave-alone",)).cells()
    monkeypatch.setenv(FILES, str(path))
    assert discover().methods["leave-alone"].path == path
    assert method_id(str(path)) == "leave-alone"
    cells = replace(TINY, recipes=("leave-alone:strength=0.25 > dynamic-int8",), methods=(str(path),)).cells()
    assert [cell.recipe for cell in cells] == ["leave-alone:strength=0.25 > dynamic-int8"]
    monkeypatch.delenv(FILES)
    assert "leave-alone" not in discover().methods


def test_a_file_of_the_package_is_not_a_second_method(monkeypatch: pytest.MonkeyPatch) -> None:
    path = discover().methods["magnitude"].path
    assert path is not None
    monkeypatch.setenv(FILES, str(path))
    assert discover() == type(discover())(discover().methods, {})
    assert method_id(str(path)) == "magnitude"


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        ("import nothing_of_this_name\n", "broken.py", "ModuleNotFoundError"),
        ("x = 1\n", "empty.py", "0 methods"),
        (METHOD, "other_name.py", "'other-name'"),
        (METHOD.replace("leave-alone", "magnitude"), "magnitude.py", "'magnitude'"),
    ],
)
def test_a_file_without_a_method_is_named(
    text: str, name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = written(tmp_path), written(tmp_path, text, name)
    monkeypatch.setenv(FILES, os.pathsep.join(map(str, (bad, good))))
    with refused(Code.UNREADABLE, reason) as error:
        method_id(str(bad))
    assert str(error.value).count(str(bad)) == 1
    assert method_id(str(good)) == "leave-alone", "a broken file must not hide other files"


def test_a_missing_file(tmp_path: Path) -> None:
    with refused(Code.NOT_FOUND, str(tmp_path / "none.py")):
        adapter_files_of(["none.py"], tmp_path)


class Rounds:
    """Do what `benchmark.pedantic` does in each round: read the timer, call the target, read the timer."""

    def __init__(self, timer: Any) -> None:
        self.timer = timer
        self.seconds: list[float] = []

    def pedantic(self, target: Any, setup: Any, rounds: int) -> None:
        for _ in range(rounds):
            setup()
            began = self.timer()
            target()
            self.seconds.append(self.timer() - began)


@given(st.lists(st.floats(1e-9, 1e6), min_size=1))
def test_durations_are_played_back_to_the_last_bit(durations: list[float]) -> None:
    recording = Recording()
    rounds = Rounds(recording.replay_clock)
    recording.play(rounds, durations)
    assert rounds.seconds == durations
