"""Costs that are measured once for many cells, and how the seconds of a cell are booked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.common.errors import Code, SkylineError
from harness.models.artifacts import CONFIG, WEIGHTS, artifact_hash, save_artifact
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.profiling import profile
from harness.profiling.costs import kept as kept_costs
from harness.profiling.costs.kept import KeptCosts, contents, inputs_key
from harness.profiling.costs.memory import PeakMemory
from harness.profiling.costs.size import artifact_facts
from harness.profiling.inputs import Inputs, make_workload
from harness.profiling.latency.paired import Speed
from harness.profiling.profile import StaticCosts, profile_artifact, static_costs
from harness.profiling.stopwatch import Stopwatch, watched
from harness.recipes.builder import build_untrained
from harness.recipes.recipe import Recipe
from harness.records.cells import ProfileCell
from harness.records.schema import ArtifactFacts, Workload, parse_record
from harness.runs.profile_run import ProfileRun, execute_profile, make_for_profile
from harness.runs.resolution import Resolver
from harness.runtimes import Execution
from harness.runtimes.eager import EagerRuntime
from tests.support.one_line_errors import refused
from tests.support.paired_latency import NO_PAIRS, paired_latency

INPUTS = Inputs.of(make_workload(8, 2))
LATENCY = paired_latency()


def artifact(folder: Path, layers: int = 1, seed: int = 0) -> Path:
    config = EncoderConfig.bert(layers, 16, heads=2, vocab_size=50, positions=32)
    save_artifact(Encoder(config).initialize(torch.Generator().manual_seed(seed)), folder)
    return folder


def test_what_is_kept_is_not_measured_again(tmp_path: Path) -> None:
    kept, found = KeptCosts(tmp_path), iter(range(1, 9))

    def measure() -> PeakMemory:
        return PeakMemory((next(found),), None)

    assert kept.recall(PeakMemory, {"of": "a"}) is None
    assert kept.once(PeakMemory, {"of": "a"}, measure) == PeakMemory((1,), None)
    assert KeptCosts(tmp_path).once(PeakMemory, {"of": "a"}, measure) == PeakMemory((1,), None)
    assert kept.once(PeakMemory, {"of": "b"}, measure) == PeakMemory((2,), None)
    kept.keep(PeakMemory((7,), 8), {"of": "a"})
    assert kept.recall(PeakMemory, {"of": "a"}) == PeakMemory((7,), 8)
    assert kept.recall(StaticCosts, {"of": "a"}) is None


@pytest.mark.parametrize("damage", ["", "{}", '{"samples": "many", "accelerator": null}', "\x00"])
def test_what_is_damaged_is_measured_again(tmp_path: Path, damage: str) -> None:
    kept = KeptCosts(tmp_path)
    kept.keep(PeakMemory((1,), None), {})
    (file,) = (tmp_path / "costs").iterdir()
    file.write_text(damage)
    assert kept.once(PeakMemory, {}, lambda: PeakMemory((2,), None)) == PeakMemory((2,), None)
    assert kept.recall(PeakMemory, {}) == PeakMemory((2,), None)


def test_another_version_of_the_measuring_measures_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptCosts(tmp_path)
    kept.keep(PeakMemory((1,), None), {})
    monkeypatch.setattr(kept_costs, "PROFILING_VERSION", 1 + kept_costs.PROFILING_VERSION)
    assert kept.recall(PeakMemory, {}) is None


def test_all_kinds_survive_the_disk(tmp_path: Path) -> None:
    folder, kept = artifact(tmp_path / "a"), KeptCosts(tmp_path)
    for cost in (static_costs(folder, INPUTS), artifact_facts(folder), PeakMemory((3,), 4)):
        assert kept.keep(cost, {}) == cost
        assert kept.recall(type(cost), {}) == cost


def test_an_artifact_is_known_by_what_it_holds(tmp_path: Path) -> None:
    first = artifact(tmp_path / "a")
    copy = shutil.copytree(first, tmp_path / "copy")
    assert contents(copy) == contents(first)
    assert contents(artifact(tmp_path / "b", seed=1)) != contents(first)
    data = json.loads((copy / CONFIG).read_text())
    (copy / CONFIG).write_text(json.dumps({**data, "digests": {}}))
    assert contents(copy) == {"artifact": artifact_hash(copy)}


def test_workloads_and_real_rows_are_told_apart() -> None:
    rows = torch.ones(3, 4, 8, dtype=torch.long).numpy()
    real = replace(INPUTS, workload=make_workload(8, 2, "real"), rows=rows)
    other, whole = replace(real, rows=2 * rows), replace(real, split=rows)
    several = (INPUTS, Inputs.of(make_workload(8, 1)), replace(INPUTS, seed=1), real, other, whole)
    assert len({json.dumps(inputs_key(each)) for each in several}) == len(several)
    assert inputs_key(real) == inputs_key(replace(real, rows=rows.copy())) == inputs_key(whole.timed)


class Preparing(EagerRuntime):
    prepares = True


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Replace a runtime's export in a child, and list what was prepared."""
    done: list[tuple[Any, ...]] = []

    def isolated(function: Any, execution: Execution, *rest: Any) -> None:
        *length, into = rest
        (into / "graph").write_text("made")
        done.append((execution.folder.name, execution.precision, *length))
        if length == [13]:
            raise SkylineError("no graph of 13", Code.TOO_LONG)

    monkeypatch.setattr(kept_costs, "get_runtime", lambda name: Preparing())
    monkeypatch.setattr(kept_costs, "run_isolated", isolated)
    return done


def test_a_graph_is_exported_once_and_gone_at_the_end(
    tmp_path: Path, prepared: list[tuple[Any, ...]]
) -> None:
    execution = Execution(artifact(tmp_path / "a"))
    with KeptCosts(tmp_path) as kept:
        first = kept.prepared(execution, 8)
        assert first == replace(execution, prepared=first.prepared)
        assert first.prepared is not None
        assert (first.prepared / "graph").read_text() == "made"
        assert kept.prepared(execution, 8) == first
        assert kept.prepared(execution, 16) != first
        assert kept.prepared(replace(execution, precision="int8"), 8) != first
        assert prepared == [("a", "float32", 8), ("a", "float32", 16), ("a", "int8", 8)]
        for _ in range(2):
            with refused(Code.TOO_LONG, "13"):
                kept.prepared(execution, 13)
    assert list((tmp_path / "prepared").iterdir()) == []


def test_only_the_last_graphs_stay_on_disk(tmp_path: Path, prepared: list[tuple[Any, ...]]) -> None:
    """A baseline's, which every candidate asks for, is among them."""
    baseline = Execution(artifact(tmp_path / "baseline"))
    candidates = [Execution(artifact(tmp_path / f"candidate-{n}", seed=n)) for n in range(6)]
    with KeptCosts(tmp_path) as kept:
        for candidate in candidates:
            folders = [kept.prepared(each, 8).prepared for each in (baseline, candidate, candidate)]
            assert all((folder / "graph").is_file() for folder in folders if folder is not None)
            assert len(list(kept._temporary.iterdir())) <= kept_costs.PREPARED
    assert [name for name, *_ in prepared] == ["baseline", *(each.folder.name for each in candidates)]


def test_what_a_killed_run_prepared_is_swept_away_by_the_next(tmp_path: Path) -> None:
    """The store removes folders whose names begin with a dot."""
    kept = KeptCosts(tmp_path)
    assert kept._temporary.name.startswith(".")
    kept.close()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List which artifacts are counted and measured, without child processes and clocks."""
    done: list[str] = []

    def memory(execution: Execution, inputs: Inputs, **_: Any) -> PeakMemory:
        done.append(f"memory of {execution.folder.name}")
        return PeakMemory((len(done),), None)

    def isolated(function: Any, *args: Any) -> Any:
        done.append(f"counts of {args[0].name}")
        return function(*args)

    monkeypatch.setattr(profile, "measure_memory", memory)
    monkeypatch.setattr(profile, "run_isolated", isolated)
    monkeypatch.setattr(profile, "measure_speed", lambda *_, **__: Speed(LATENCY, None, NO_PAIRS))
    return done


def test_a_baseline_is_measured_once(tmp_path: Path, measured: list[str]) -> None:
    folders = [artifact(tmp_path / f"layers-{n}", n) for n in (3, 2, 1)]
    asked: dict[str, Any] = {"recipe": "r", "model": "m", "weights": "w"}
    workload, kept = Workload(batch=1, length=8), KeptCosts(tmp_path / "work")
    profiles = [
        profile_artifact(folder, folders[0], workload=workload, kept=kept, **asked) for folder in folders
    ]
    assert sorted(measured) == sorted(
        f"{cost} of layers-{n}" for n in (1, 2, 3) for cost in ("counts", "memory")
    )
    (peak,) = {found.baseline.peak_memory_bytes for found in profiles if found.baseline is not None}
    assert peak == profiles[0].total.peak_memory_bytes
    assert len({found.total.flops for found in profiles}) == 3
    measured.clear()
    # A candidate's memory is measured again for each record; its counts are kept.
    again = profile_artifact(folders[2], folders[0], workload=workload, kept=kept, **asked)
    assert measured == ["memory of layers-1"]
    assert again.total.flops == profiles[2].total.flops
    measured.clear()
    profile_artifact(folders[2], folders[0], workload=Workload(batch=1, length=9), kept=kept, **asked)
    assert len(measured) == 4
    measured.clear()
    profile_artifact(folders[2], folders[0], workload=workload, **asked)
    assert len(measured) == 4


CELL = ProfileCell(
    recipe=str(Recipe.parse("layer-drop:drop=1")),
    model="bert-tiny",
    workload=Workload(batch=1, length=16),
    time_cap_s=0.5,
)


def test_an_artifact_is_described_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = (CELL, tmp_path, None, 1)
    made, watch = make_for_profile(*asked, set())
    assert made.facts == artifact_facts(made.folder)
    assert watch.seconds["making"] > 0
    assert watch.seconds["describing"] > 0
    looked: list[Path] = []

    def never(folder: Path) -> ArtifactFacts:
        raise AssertionError("described again")

    monkeypatch.setattr("harness.profiling.costs.size.artifact_facts", never)
    monkeypatch.setattr("harness.recipes.builder.verify_artifact", looked.append)
    assert make_for_profile(*asked, set())[0] == made
    assert set(looked) == {made.folder, made.baseline}
    looked.clear()
    assert make_for_profile(*asked, {made.baseline})[0] == made
    assert looked == [made.folder]


def test_a_run_makes_an_artifact_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ProfileCell] = []

    def isolated(function: Any, cell: ProfileCell, *rest: Any) -> Any:
        made.append(cell)
        return function(cell, *rest)

    monkeypatch.setattr("harness.runs.profile_run.run_isolated", isolated)
    run, watch = ProfileRun(tmp_path), Stopwatch()
    first = run.make(CELL, 1, watch)
    elsewhere = {"runtime": "openvino", "precision": "int8", "workload": Workload(batch=8, length=32)}
    for change in (elsewhere, {"time_cap_s": 9.0}, {"device": "cuda"}):
        assert run.make(CELL.model_copy(update=change), 1, watch) == first
    assert made == [CELL]
    assert run.make(CELL.model_copy(update={"seed": 1}), 1, watch) != first
    shutil.rmtree(first.folder)
    assert run.make(CELL, 1, watch) == first
    assert len(made) == 3
    assert first.folder.is_dir()


def test_known_folders_that_are_gone_are_built_again(tmp_path: Path) -> None:
    folder, baseline = build_untrained(Recipe.parse(CELL.recipe), CELL.model, tmp_path)
    shutil.rmtree(folder)
    whole = {folder, baseline}
    assert build_untrained(Recipe.parse(CELL.recipe), CELL.model, tmp_path, whole=whole) == (folder, baseline)
    assert (folder / WEIGHTS).is_file()


def test_seconds_are_booked_by_what_they_went_to(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 2.0, 10.0, 11.0, 20.0, 24.0])
    monkeypatch.setattr("harness.profiling.stopwatch.time.perf_counter", lambda: next(ticks))
    watch, other = Stopwatch(), Stopwatch()
    with watch.on("loading"):
        pass
    with pytest.raises(ValueError, match="within"), watch.on("passes"):
        raise ValueError("within")
    with other.on("passes"):
        pass
    watch.add(other)
    spent = watch.spent(10.0)
    assert (spent.making, spent.describing, spent.loading, spent.passes) == (0, 0, 2, 5)
    assert spent.overhead == 3
    assert watch.spent(6.5).overhead == 0


def test_a_childs_watch_comes_back() -> None:
    def work(value: int, watch: Stopwatch) -> int:
        watch.seconds["passes"] += value
        return value + 1

    result, watch = watched(work, 2)
    assert (result, watch.seconds["passes"]) == (3, 2)


@pytest.mark.slow
def test_a_record_tells_what_its_seconds_went_to(tmp_path: Path) -> None:
    with ProfileRun(tmp_path) as run:
        job = Resolver().job(CELL)
        records = [execute_profile(job, run) for _ in range(2)]
    for record in records:
        spent = record.provenance.spent
        assert spent is not None
        assert 0 < sum(spent.model_dump().values()) <= record.provenance.seconds + 0.01
        assert min(spent.loading, spent.passes, spent.overhead) > 0
        assert parse_record(record.to_json(), "it") == record
    first, second = (record.provenance.spent for record in records)
    assert first is not None
    assert second is not None
    assert min(first.making, first.describing) > 0
    assert second.describing == 0
    assert records[0].artifact == records[1].artifact
    old = json.loads(records[0].to_json())
    del old["provenance"]["spent"]
    assert parse_record(json.dumps(old), "an old one").provenance.spent is None
