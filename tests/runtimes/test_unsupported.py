"""A run skips what a runtime cannot run and records the reason; a runtime that is not installed is an error at once."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main as cli
from harness.common.errors import Code, Unsupported
from harness.common.processes import ChildRaised
from harness.models.config import ExitRule
from harness.profiling.profile import profile_artifact
from harness.records.cells import ProfileCell
from harness.records.schema import PRECISIONS, Workload
from harness.records.store import Store
from harness.runs.engines import local
from harness.runs.job import Job
from harness.runs.planning import make_plan, resolve_cells
from harness.runtimes import get_runtime, refused_exits, runtime_names
from harness.runtimes.base import Runtime
from tests.support.one_line_errors import refused
from tests.support.runtime_models import LAYER, PLAIN, drawn, encoder, quantized, saved

EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino"}


def cell(recipe: str = "baseline", **other: Any) -> ProfileCell:
    return ProfileCell(recipe=recipe, model="tiny", workload=Workload(batch=1, length=16), **other)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    missing = ("onnx", "onnxruntime", "onnxscript", "openvino")
    monkeypatch.setattr(
        "harness.runtimes.base.find_spec", lambda name: None if name in missing else found(name)
    )


def test_every_runtime_has_a_home() -> None:
    assert runtime_names() == ("compile", "cuda-graphs", "eager", "onnxruntime", "openvino")
    assert [get_runtime(name).name for name in runtime_names()] == list(runtime_names())


@pytest.mark.parametrize("name", EXTRAS)
@pytest.mark.usefixtures("nothing_installed")
def test_what_is_not_installed_names_its_extra(name: str, tmp_path: Path) -> None:
    says = (Code.NOT_INSTALLED, f"'{name}'", f"pip install 'bert-skyline[{EXTRAS[name]}]'")
    folder = saved(drawn(PLAIN), tmp_path / "a")
    with refused(*says):
        resolve_cells([cell(), cell(runtime=name)])
    with refused(*says):
        get_runtime(name).load(folder, "cpu")
    with refused(*says):
        profile_artifact(
            folder,
            folder,
            recipe="r",
            model="m",
            weights="w",
            workload=Workload(batch=1, length=8),
            runtime=name,
        )


@pytest.mark.usefixtures("nothing_installed")
def test_the_command_says_it_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["skyline", "profile", "baseline", "--model", "bert-tiny", "--runtime", "openvino"]
    )
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert "bert-skyline[openvino]" in captured.err


def test_a_compiler_is_part_of_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with refused(Code.NOT_INSTALLED, "'compile'", "'no-such-compiler'"):
        get_runtime("compile").require("cpu")


@pytest.mark.parametrize("name", EXTRAS)
def test_graphs_are_executed_on_the_processor_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtimes.base.find_spec", lambda name: True)
    with refused(Code.CONFLICT, f"'{name}'", "cuda", "use cpu"):
        get_runtime(name).require("cuda")


def test_bfloat16_needs_a_processor_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, names in ((True, {"onnxruntime"}), (False, set(runtime_names()))):
        monkeypatch.setattr("harness.runtimes.base.has_bfloat16", lambda device, has=has: has)
        lacking = {name for name in runtime_names() if get_runtime(name).lacks("bfloat16", "cpu")}
        assert lacking == names
        assert not any(get_runtime(name).lacks("int8", "cpu") for name in runtime_names())


def test_rows_leave_no_graph() -> None:
    first = LAYER.model_copy(update={"exit": "pooler"})
    config = encoder(first, LAYER, exit_rule=ExitRule(kind="entropy", threshold=0.5))
    assert refused_exits(get_runtime("openvino"), PLAIN) is None
    assert (
        refused_exits(get_runtime("eager"), config) is refused_exits(get_runtime("compile"), config) is None
    )
    for name in ("onnxruntime", "openvino"):
        reason = refused_exits(get_runtime(name), config) or ""
        assert f"'{name}'" in reason
        assert "use compile or eager" in reason


def test_the_profile_of_an_artifact_says_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {
        "recipe": "r",
        "model": "m",
        "weights": "w",
        "workload": Workload(batch=1, length=8),
    }
    first = LAYER.model_copy(update={"exit": "pooler"})
    exits = saved(
        drawn(encoder(first, LAYER, exit_rule=ExitRule(kind="entropy", threshold=0.5))), tmp_path / "exits"
    )
    monkeypatch.setattr(Runtime, "require", lambda self, device: None)
    with refused(Code.UNSUPPORTED, "'openvino'", "use compile or eager"):
        profile_artifact(exits, exits, runtime="openvino", **asked)
    stored = saved(quantized(drawn(PLAIN)), tmp_path / "int8")
    with refused(Code.UNSUPPORTED, "bfloat16", "use float32"):
        profile_artifact(stored, stored, precision="bfloat16", **asked)


def test_a_run_skips_what_cannot_be_run_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runtime, "require", lambda self, device: None)
    monkeypatch.setattr(Runtime, "versions", lambda self: {})
    cells = [
        cell("deebert:threshold=0.3", runtime="openvino"),
        cell(runtime="onnxruntime", precision="bfloat16"),
        cell(),
    ]
    tried: list[str] = []

    def profile(job: Job, *_: Any) -> Any:
        tried.append(job.cell.recipe)
        raise Unsupported("found out late") if len(tried) == 1 else MemoryError

    monkeypatch.setattr(local, "execute_profile", profile)
    store = Store(tmp_path)
    jobs = resolve_cells(cells)
    plan = make_plan(jobs, store)
    assert [bool(job.unsupported) for job in plan.jobs] == [True, True, False]
    records = local.LocalEngine(store, None).run(plan.jobs)
    assert [record.status for record in records] == ["skipped"] * 3
    assert "'openvino'" in records[0].reason
    assert "bfloat16" in records[1].reason
    assert records[2].reason == "found out late"
    assert tried == ["baseline"]
    assert not make_plan(jobs, store).fresh


def test_the_command_counts_what_was_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text(
        'title = "mine"\nprofile_model = "tiny"\n[[profiling]]\nrecipes = ["magnitude"]\nworkloads = [[1, 16]]\n'
    )

    def profile(*_: Any) -> Any:
        raise Unsupported("no kernel for it")

    monkeypatch.setattr(local, "execute_profile", profile)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["skyline", "run", "mine.toml"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    captured = capsys.readouterr()
    assert not stopped.value.code
    assert captured.out == ("0 cells recorded, 0 were up to date, 2 skipped that their runtime cannot run\n")
    assert captured.err.count("skipped: no kernel for it") == 2


@pytest.mark.parametrize(
    "said",
    [
        "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code. Failed to allocate memory for requested",
        "Exception from src/inference/src/cpp/infer_request.cpp:223:\nstd::bad_alloc",
    ],
)
def test_out_of_memory_is_recognised_in_every_runtimes_words(said: str) -> None:
    assert ChildRaised("RuntimeError", said, "").out_of_memory
    assert not ChildRaised("RuntimeError", "shapes do not fit", "").out_of_memory


def test_the_way_of_execution_is_part_of_a_cell() -> None:
    """Records that were made before precisions existed keep their keys."""
    plain = cell()
    assert "precision" not in plain.identity()
    ways = [cell(runtime=name, precision=precision) for name in runtime_names() for precision in PRECISIONS]
    assert len({way.key for way in ways}) == len({way.slug for way in ways}) == len(ways)
    chosen = cell(runtime="openvino", precision="int8")
    assert ".openvino-int8-cpu-1x16." in chosen.slug
    assert ProfileCell.model_validate(json.loads(json.dumps(chosen.identity()))) == chosen


def test_unknown_precisions_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["skyline", "profile", "baseline", "--precision", "int4"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "unknown precision 'int4'; did you mean 'int8'?" in capsys.readouterr().err
