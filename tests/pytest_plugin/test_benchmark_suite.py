"""Whole sessions of `pytest --benchmark` on a tiny model, in folders outside the repository."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from harness.records.checks import check_records
from harness.records.schema import Record, read_record
from harness.records.store import Store
from tests.support.adapter_files import METHOD, written

pytest_plugins = ["pytester"]
TINY = ("--benchmark-model=bert-tiny", "--benchmark-time-cap=1", "--benchmark-workload=1x16")
NEEDS_ONNX = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs the extra 'onnx'")
OWN_TEST = """
def test_mine(skyline_profile):
    record = skyline_profile("dynamic-int8", workload="2x8")
    assert record.profile.workload.batch == 2
    assert record.profile.model == "bert-tiny"

def test_plain():
    pass
"""


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide xdist: pytest-benchmark would take the inner process for a worker of it, and measure nothing."""
    for name in [name for name in os.environ if "XDIST" in name]:
        monkeypatch.delenv(name)


def records_in(folder: Path) -> list[Record]:
    records = [read_record(path) for path in sorted((folder / "measured").glob("*/*.json"))]
    assert not check_records(records)
    return records


@dataclass(frozen=True)
class Entry:
    """An entry of pytest-benchmark's JSON."""

    whole: dict[str, Any]

    @property
    def ms(self) -> list[float]:
        return [1e3 * seconds for seconds in self.whole["stats"]["data"]]


def entries(path: Path) -> dict[str, Entry]:
    return {entry["fullname"]: Entry(entry) for entry in json.loads(path.read_text())["benchmarks"]}


def name_of(recipe: str) -> str:
    return f"skyline::test_profile[{recipe}-eager-1x16-bert-tiny-cpu]"


@pytest.mark.slow
def test_a_folder_with_nothing_but_a_method(pytester: pytest.Pytester) -> None:
    """The folder's method is measured in child processes, recorded, and compared with the next run."""
    written(pytester.path)
    asked = ["-p", "harness.pytest_plugin", "--benchmark", *TINY, "--benchmark-method=leave_alone.py"]
    saved = ["--benchmark-json=out.json", "--benchmark-autosave"]
    first = pytester.runpytest_subprocess(*asked, "--benchmark-recipe=dynamic-int8", *saved)
    first.assert_outcomes(passed=2)
    records = {record.recipe: record for record in records_in(pytester.path / "runs")}
    assert set(records) == {"leave-alone", "dynamic-int8"}
    found = entries(pytester.path / "out.json")
    assert set(found) == {name_of("leave-alone"), name_of("dynamic-int8")}
    for recipe, record in records.items():
        entry, profile = found[name_of(recipe)], record.profile
        assert record.status == "ok"
        assert profile is not None
        assert profile.latency is not None
        assert profile.baseline is not None
        # The passes are exactly the ones of the record's paired timing.
        assert median(entry.ms) == pytest.approx(profile.latency.median_ms, rel=1e-12)
        assert len(entry.ms) >= profile.latency.samples
        info = entry.whole["extra_info"]
        assert info["key"] == record.key
        assert info["speedup"] == profile.latency.speedup
        assert info["verdict"] == profile.latency.verdict
        assert info["flops_ratio"] == profile.baseline.flops / profile.total.flops
        assert info["disk_bytes"] == profile.total.disk_bytes
        assert entry.whole["group"] == "bert-tiny on cpu at (1, 16)"
        assert entry.whole["params"] == {"recipe": recipe, "runtime": "eager", "workload": "1x16"}
    assert found[name_of("dynamic-int8")].whole["extra_info"]["disk_ratio"] > 2
    first.stdout.fnmatch_lines(["profile of leave-alone (untrained) at (1, 16):*", "records: *runs/measured"])

    again = pytester.runpytest_subprocess(*asked, "--benchmark-compare", "--benchmark-json=again.json")
    again.assert_outcomes(passed=1)
    again.stdout.fnmatch_lines(["*test_profile?leave-alone-eager-1x16-bert-tiny-cpu? (NOW)*"])
    again.stdout.fnmatch_lines(["*test_profile?leave-alone-eager-1x16-bert-tiny-cpu? (0001_*)*"])
    assert "dynamic-int8" not in again.stdout.str().partition("benchmark 'bert-tiny on cpu")[2]
    assert set(entries(pytester.path / "again.json")) == {name_of("leave-alone")}


@pytest.mark.slow
def test_a_users_test(pytester: pytest.Pytester) -> None:
    """Named tests run alone, under the model that the command line names; nothing else is measured."""
    pytester.makepyfile(test_mine=OWN_TEST)
    where = ["--benchmark-records=kept", "--benchmark-json=out.json"]
    result = pytester.runpytest_subprocess("--benchmark", *TINY, *where, "test_mine.py")
    result.assert_outcomes(passed=1, deselected=1)
    assert set(entries(pytester.path / "out.json")) == {"test_mine.py::test_mine"}
    (record,) = records_in(pytester.path / "kept")
    assert record.cell["workload"] == {"batch": 2, "length": 8, "inputs": "synthetic"}


def test_without_the_flag_nothing_is_measured(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_mine=OWN_TEST)
    result = pytester.runpytest_subprocess(*TINY, "--benchmark-recipe=dynamic-int8")
    result.assert_outcomes(passed=1, skipped=1)
    assert not (pytester.path / "runs").exists()


def test_in_parallel_nothing_is_measured(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_mine=OWN_TEST)
    result = pytester.runpytest_subprocess("--benchmark", "--benchmark-disable", *TINY, "test_mine.py")
    result.assert_outcomes(skipped=1, deselected=1)
    assert not (pytester.path / "runs" / "measured").exists()


@NEEDS_ONNX
def test_an_unsupported_cell_is_skipped(pytester: pytest.Pytester) -> None:
    asked = ["--benchmark-recipe=deebert:speed=1.5", "--benchmark-runtime=onnxruntime"]
    result = pytester.runpytest_subprocess("-rs", "--benchmark", *TINY, *asked)
    result.assert_outcomes(skipped=1)
    (record,) = records_in(pytester.path / "runs")
    assert record.status == "skipped"
    assert "'onnxruntime'" in record.reason
    assert any("SKIPPED" in line and record.reason in line for line in result.outlines)


@NEEDS_ONNX
def test_a_failed_cell_is_recorded_and_the_others_run(pytester: pytest.Pytester) -> None:
    broken = METHOD + "\n    def finish(self, student, context):\n        raise RuntimeError('it broke')\n"
    written(pytester.path, broken)
    asked = ["--benchmark-method=leave_alone.py", "--benchmark-recipe=deebert:speed=1.5"]
    result = pytester.runpytest_subprocess("--benchmark", *TINY, *asked, "--benchmark-runtime=onnxruntime")
    result.assert_outcomes(failed=1, skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "failed: RuntimeError: it broke" in result.outlines
    assert "Traceback" not in result.stdout.str()
    statuses = {record.recipe: record.status for record in records_in(pytester.path / "runs")}
    assert statuses == {"leave-alone": "failed", "deebert:speed=1.5": "skipped"}


def test_options_choose_cells_before_anything_is_collected(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_broken="raise RuntimeError('never imported')")
    asked = [
        "--benchmark-recipe=magnitude:sparsity=0.6",
        "--benchmark-recipe=kd-logits:layers=1 > dynamic-int8",
    ]
    result = pytester.runpytest_subprocess("--benchmark", "--collect-only", "-q", *TINY, *asked)
    assert result.ret == pytest.ExitCode.OK
    collected = [line for line in result.outlines if "::" in line]
    assert collected == [name_of("magnitude:sparsity=0.6"), name_of("kd-logits:layers=1>dynamic-int8")]


def test_without_options_the_usual_cells_run_with_the_timed_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_mine=OWN_TEST)
    result = pytester.runpytest_subprocess("--benchmark", "--benchmark-tiny", "--collect-only", "-q")
    collected = [line for line in result.outlines if "::" in line]
    assert collected[0] == "test_mine.py::test_mine"
    assert collected[1] == "skyline::test_profile[baseline-eager-1x128-bert-tiny-cpu]"
    assert len(collected) == 1 + 5


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("--benchmark-runtime=onnxruntim", "'onnxruntime'"),
        ("--benchmark-workload=1-16", "'1-16'"),
        ("--benchmark-method=none.py", "none.py"),
        ("--benchmark-method=torn.py", "torn.py: SyntaxError"),
    ],
)
def test_a_mistake_is_one_line(asked: str, name: str, pytester: pytest.Pytester) -> None:
    written(pytester.path, "x = (\n", "torn.py")
    result = pytester.runpytest_subprocess("--benchmark", asked)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert line.startswith("ERROR: ")
    assert name in line
    assert not (pytester.path / "runs").exists()


def test_a_folder_of_records_that_another_run_holds(pytester: pytest.Pytester) -> None:
    with Store(pytester.path / "runs").lock():
        result = pytester.runpytest_subprocess("--benchmark", *TINY, "--benchmark-recipe=dynamic-int8")
    result.assert_outcomes(errors=1)
    assert any("--benchmark-records" in line for line in result.outlines)
    assert "Traceback" not in result.stdout.str()
