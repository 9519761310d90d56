"""Sittings: all pairs are one sample, and every profile has one sitting before any has the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.profiling.latency.pairs import Arm, PairedTimes, Plan, latency_record, measure_pairs
from harness.profiling.latency.sittings import WIDE, takes_sittings
from harness.records.cells import ProfileCell
from harness.records.schema import Record, Workload
from harness.records.store import Store
from harness.runs.engines.base import Listener
from harness.runs.engines.local import LocalEngine
from harness.runs.job import Job
from harness.runs.planning import make_plan, resolve_cells
from harness.runs.profile_run import ProfileRun
from harness.runs.resolution import Resolver
from harness.runs.run import run_cells
from harness.runtimes import get_runtime
from tests.support.synthetic_timer import SyntheticTimer

SHORT = Plan(cap_s=6.0)


def sitting(
    speedup: float, seed: int, earlier: PairedTimes | None = None, plan: Plan = SHORT, **machine: float
) -> PairedTimes:
    seconds: dict[Arm, float] = {"baseline": 0.14, "candidate": 0.14 / speedup}
    timer = SyntheticTimer(seconds, seed=seed, **machine)  # type: ignore[arg-type]
    return measure_pairs(timer, timer.clock, plan, earlier=earlier)


def test_the_pairs_of_all_sittings_are_one_sample() -> None:
    first = sitting(2.0, 0, duty=0.3, period=1.0)
    second = sitting(2.0, 1, earlier=first, duty=0.3, period=1.0)
    assert second.pairs[: len(first.pairs)] == first.pairs
    assert second.same[: len(first.same)] == first.same
    assert len(second.pairs) > len(first.pairs)
    assert (first.sittings, second.sittings) == (1, 2)
    assert second.interval is not None
    assert second.interval.ratio == pytest.approx(
        float(np.exp(np.median([pair.log_ratio for pair in second.used_pairs])))
    )
    record = latency_record(second, threads=2)
    assert (record.sittings, record.samples) == (2, len(second.used_pairs))
    assert record.disturbed == sum(pair.disturbed for pair in second.pairs)


def test_phases_of_the_machine_cancel_between_sittings() -> None:
    """If the ratio is wrong by some per cent during a whole sitting, two sittings of half the length are nearer."""
    rng = np.random.default_rng(0)
    alone, apart = [], []
    for seed in range(40):
        phases = np.exp(rng.normal(0, 0.03, 2))
        whole = sitting(2.0 * phases[0], seed, plan=Plan(cap_s=12.0))
        halves = sitting(2.0 * phases[1], seed, earlier=sitting(2.0 * phases[0], seed + 99))
        for found, off in ((whole, alone), (halves, apart)):
            assert found.interval is not None
            off.append(np.log(found.interval.ratio / 2.0))
    # The mean of two normal phases is nearer by the square root of 2.
    assert np.std(apart) < 0.85 * np.std(alone)


def test_what_prepares_or_compiles_is_loaded_once() -> None:
    wanted = {"eager": True, "compile": False, "onnxruntime": False, "openvino": False}
    for runtime, takes in wanted.items():
        assert takes_sittings(get_runtime(runtime)) is takes


def tiny(recipe: str, length: int = 8, cap_s: float = 1.0) -> ProfileCell:
    workload = Workload(batch=1, length=length)
    return ProfileCell(recipe=recipe, model="bert-tiny", workload=workload, time_cap_s=cap_s)


def test_a_part_of_every_profile_is_taken_before_the_next(tmp_path: Path) -> None:
    cells = [tiny("baseline"), tiny("layer-drop:drop=1")]
    begun: list[str] = []
    listener = Listener(started=lambda cell: begun.append(cell.recipe))
    engine = LocalEngine(Store(tmp_path), None, sittings=2, listener=listener)
    with engine.store.lock():
        records = engine.run(resolve_cells(cells))
    assert begun == [cell.recipe for cell in cells] * 2
    for record in records:
        assert record.status == "ok"
        assert record.profile is not None
        assert record.profile.latency is not None
        assert record.profile.latency.sittings == 2


def test_what_is_wrong_with_a_profile_is_said_once(tmp_path: Path) -> None:
    """The record says it; a sitting that fails is silent and leaves nothing."""
    job = Resolver().job(tiny("baseline", length=10_000))  # longer than its positions
    with ProfileRun(tmp_path) as run:
        run.sit(job, 1, 0.5)
        assert run.take_sittings(job) is None


def test_sittings_belong_to_one_profile(tmp_path: Path) -> None:
    job = Resolver().job(tiny("baseline", cap_s=0.4))
    with ProfileRun(tmp_path) as run:
        for expected in (1, 2):
            run.sit(job, 1, 0.5)
            assert run._sittings[job.cell.key].times.sittings == expected
        found = run.take_sittings(job)
        assert found is not None
        assert found.whole_s >= sum(found.watch.seconds.values())
        assert run.take_sittings(job) is None


def test_a_run_asks_for_sittings(tmp_path: Path) -> None:
    outcome = run_cells([tiny("baseline", cap_s=0.4)], tmp_path, sittings=3, quiet=True)
    profile = outcome.records[0].profile
    assert profile is not None
    assert profile.latency is not None
    assert profile.latency.sittings == 3


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Sat(ProfileRun):
    """A run whose cells have intervals of given half-widths. A sitting takes a second and halves the interval."""

    def __init__(self, widths: dict[str, float], clock: Clock) -> None:
        super().__init__(Path())
        self.widths, self.clock = widths, clock
        self.took: list[str] = []

    def half_width(self, job: Job) -> float:
        return self.widths.get(job.cell.recipe, 0.0)

    def sit(self, job: Job, threads: int, share: float) -> None:
        assert share == 0.5
        self.took.append(job.cell.recipe)
        self.widths[job.cell.recipe] /= 2
        self.clock.now += 1


WIDTHS = {"svd": 0.05, "albert": 0.03, "magnitude": WIDE, "gobo": float("inf")}


@pytest.mark.parametrize(
    ("further_s", "expected"),
    [
        (0.0, []),
        # The second round is ordered by the remaining half-widths: inf, 0.025.
        (4.5, ["gobo", "svd", "albert", "gobo", "svd"]),
        # Only an infinite one is left.
        (9.0, ["gobo", "svd", "albert", "gobo", "svd", *["gobo"] * 4]),
    ],
)
def test_further_sittings_go_round_the_wide_ones(
    further_s: float, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("harness.runs.engines.local.time.monotonic", clock)
    run = Sat(dict(WIDTHS), clock)
    engine = LocalEngine(Store(tmp_path), None, sittings=2, further_s=further_s)
    engine._sit_further(resolve_cells([tiny(recipe) for recipe in (*WIDTHS, "q-bert")]), run)
    assert run.took == expected


def test_further_sittings_are_counted_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.profiling.latency.sittings.WIDE", 0.0)
    cells = [tiny("baseline", cap_s=0.4)]
    outcome = run_cells(cells, tmp_path, sittings=2, further_s=1.0, quiet=True)
    assert _sittings_of(outcome.records[0]) > 2


def _sittings_of(record: Record) -> int:
    assert record.profile is not None
    assert record.profile.latency is not None
    return record.profile.latency.sittings


def test_a_profile_without_a_verdict_is_made_again_if_verdicts_are_wanted(tmp_path: Path) -> None:
    cell = tiny("baseline", cap_s=0.4)
    record = run_cells([cell], tmp_path, quiet=True).records[0]
    store, jobs = Store(tmp_path), resolve_cells([cell])
    for verdict, again in (("measured", False), ("none", True)):
        data = record.model_dump(mode="json")
        data["profile"]["latency"]["verdict"] = verdict
        store.put(cell, found := Record.model_validate(data))
        assert make_plan(jobs, store).fresh == [found]
        assert (make_plan(jobs, store, want_verdicts=True).fresh == []) is again
