"""Which cells `pytest --benchmark` measures, how they are named, and how their durations reach pytest-benchmark."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.common.errors import SkylineError
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
    ("asked", "said"),
    [
        ({"runtimes": ("onnxruntim",)}, "unknown runtime 'onnxruntim'; did you mean 'onnxruntime'?"),
        ({"runtimes": ("eager:int9",)}, "unknown precision 'int9'; did you mean 'int8'?"),
        ({"runtimes": ("eager:",)}, "unknown precision ''; known: "),
        ({"workloads": ("128",)}, "cannot read the workload '128'; write BATCHxLENGTH, as in 1x128"),
        ({"workloads": ("0x128",)}, "batch size 0 is out of range"),
        ({"workloads": ("1x0",)}, "sequence length 0 is out of range"),
        ({"workloads": (f"{MAX_BATCH + 1}x1",)}, f"batch size {MAX_BATCH + 1} is out of range"),
        ({"workloads": ("1x513",)}, "512"),
        ({"recipes": ("dynamic-int9",)}, "unknown method 'dynamic-int9'; did you mean 'dynamic-int8'?"),
        ({"recipes": ("magnitude:sparsity=2",)}, "sparsity"),
        ({"methods": ("magnitud",)}, "unknown method 'magnitud'; did you mean 'magnitude'?"),
        ({"model": "bert-bas"}, "bert-base"),
        ({"device": "gpu"}, "cuda"),
        ({"time_cap_s": 0.0}, "--benchmark-time-cap 0.0 is out of range"),
        ({"time_cap_s": float("nan")}, "--benchmark-time-cap nan is out of range"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(SkylineError) as raised:
        resolve_cells(replace(TINY, **asked).cells())
    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_method_may_stand_in_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    assert adapter_files_of(["leave_alone.py", "magnitude", str(path)], tmp_path) == [path.resolve()]
    with pytest.raises(SkylineError, match="unknown method 'leave-alone'"):
        replace(TINY, recipes=("leave-alone",)).cells()
    monkeypatch.setenv(FILES, str(path))
    assert discover().methods["leave-alone"].path == path
    assert method_id(str(path)) == "leave-alone"
    cells = replace(TINY, recipes=("leave-alone:strength=0.25 > dynamic-int8",), methods=(str(path),)).cells()
    assert [cell.recipe for cell in cells] == ["leave-alone:strength=0.25 > dynamic-int8"]
    monkeypatch.delenv(FILES)
    assert "leave-alone" not in discover().methods


def test_a_file_of_the_package_is_no_second_method(monkeypatch: pytest.MonkeyPatch) -> None:
    path = discover().methods["magnitude"].path
    assert path is not None
    monkeypatch.setenv(FILES, str(path))
    assert discover() == type(discover())(discover().methods, {})
    assert method_id(str(path)) == "magnitude"


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("import nothing_of_this_name\n", "broken.py", "ModuleNotFoundError"),
        ("x = 1\n", "empty.py", "defines 0 methods"),
        (METHOD, "other_name.py", "must be 'other-name'"),
        (METHOD.replace("leave-alone", "magnitude"), "magnitude.py", "id 'magnitude' is taken by"),
    ],
)
def test_a_file_that_is_no_method_is_named(
    text: str, name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = written(tmp_path), written(tmp_path, text, name)
    monkeypatch.setenv(FILES, os.pathsep.join(map(str, (bad, good))))
    with pytest.raises(SkylineError) as raised:
        method_id(str(bad))
    assert said in str(raised.value)
    assert str(raised.value).count(str(bad)) == 1
    assert method_id(str(good)) == "leave-alone", "a broken file hides no other"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SkylineError, match=r"there is no adapter file .*none\.py"):
        adapter_files_of(["none.py"], tmp_path)


class Rounds:
    """What `benchmark.pedantic` does around each round: read the timer, call, read it again."""

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
