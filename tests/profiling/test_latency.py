"""The paired procedure in virtual time: no test here depends on this machine's speed or load."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest

from harness.profiling.latency.pairs import (
    Arm,
    PairedTimes,
    Plan,
    Sample,
    latency_record,
    measure_pairs,
    pairs_per_floor,
)
from harness.profiling.latency.statistics import FEWEST_PAIRS
from tests.support.synthetic_timer import SyntheticTimer

RUNS = 50


def run(
    speedup: float = 1.0, seconds: float = 0.14, plan: Plan | None = None, **machine: float
) -> PairedTimes:
    seed = int(machine.pop("seed", 0))
    timer = SyntheticTimer({"baseline": seconds, "candidate": seconds / speedup}, seed=seed, **machine)  # type: ignore[arg-type]
    return measure_pairs(timer, timer.clock, plan or Plan(seed=seed))


@dataclass
class Conclusions:
    """The conclusions of many simulated runs."""

    verdicts: int = 0
    held: int = 0
    off: list[float] = field(default_factory=list)
    half_widths: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, truth: float, seconds: float = 0.14, runs: int = RUNS, **machine: float) -> Conclusions:
        found = cls()
        for seed in range(runs):
            times = run(truth, seconds, seed=seed, **machine)
            if times.verdict:
                assert times.interval is not None
                found.verdicts += 1
                found.held += times.interval.low <= truth <= times.interval.high
                found.off.append(abs(times.interval.ratio / truth - 1))
                found.half_widths.append(times.interval.half_width)
        return found


@pytest.mark.parametrize("truth", [1.0, 2.0, 0.8])
@pytest.mark.parametrize("machine", [{}, {"drift": 0.03}, {"tail": 0.05}, {"sigma": 0.015, "drift": 0.05}])
def test_quiet_machine(truth: float, machine: dict[str, float]) -> None:
    found = Conclusions.of(truth, **machine)
    assert found.verdicts == RUNS
    assert found.held >= 0.88 * RUNS
    assert max(found.off) <= 0.02
    assert max(found.half_widths) <= 0.02


@pytest.mark.parametrize("period", [0.01, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("truth", [1.0, 2.0])
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_beside_a_process_that_computes_half_of_the_time(truth: float, period: float, share: float) -> None:
    """For every rhythm, the interval of a verdict contains the truth, or there is no verdict."""
    found = Conclusions.of(truth, runs=40, sigma=0.015, drift=0.05, duty=0.5, period=period, share=share)
    wrong = found.verdicts - found.held
    assert wrong <= 0.10 * 40
    assert all(width <= 0.05 for width in found.half_widths)


@pytest.mark.parametrize("period", [0.01, 2.0])
def test_load_of_a_fast_or_a_slow_rhythm_still_gives_verdicts(period: float) -> None:
    """A fast rhythm affects all pairs alike, so all are used; a slow one leaves undisturbed pairs."""
    found = Conclusions.of(1.0, runs=60, sigma=0.015, duty=0.5, period=period, share=0.4)
    assert found.verdicts >= 57
    assert found.held >= 0.90 * found.verdicts


def test_which_pairs_are_used() -> None:
    fast = run(duty=0.5, period=0.01, share=0.5)
    assert fast.used == "all"
    assert all(pair.disturbed for pair in fast.pairs)
    assert len(fast.used_pairs) == len(fast.pairs)
    slow = run(duty=0.5, period=3.0, share=0.5)
    assert slow.used == "undisturbed"
    assert 0 < len(slow.used_pairs) < len(slow.pairs)
    assert not any(pair.disturbed for pair in slow.used_pairs)


def test_leaving_disturbed_pairs_out_is_what_helps() -> None:
    """If the procedure knows of the load, every run has a verdict, and errors are several times smaller."""
    machine = {"sigma": 0.01, "duty": 0.5, "period": 1.0, "share": 0.4}
    told = [run(seed=s, **machine) for s in range(30)]
    untold = [run(seed=s, blind=1.0, **machine) for s in range(30)]
    errors = [
        np.percentile([abs(t.interval.ratio - 1) for t in times if t.interval is not None], 95)
        for times in (told, untold)
    ]
    assert errors[0] < errors[1] / 3
    assert all(t.verdict for t in told)
    assert sum(t.verdict for t in untold) <= 15


def test_hopeless_noise_gives_no_verdict() -> None:
    for seed in range(20):
        times = run(sigma=0.6, seed=seed)
        assert not times.verdict
        record = latency_record(times, threads=2)
        assert record.verdict == "none"
        assert record.speedup is None
        assert record.speedup_ci95 is not None


@pytest.mark.parametrize("seconds", [0.0005, 0.14, 1.5])
def test_the_cap_is_kept(seconds: float) -> None:
    """Steady passes end before the cap; unsteady ones exceed it by two pairs at most."""
    steady = SyntheticTimer({"baseline": seconds, "candidate": seconds}, sigma=0.01)
    measure_pairs(steady, steady.clock, Plan(cap_s=20, target=-1))
    assert steady.now <= 20 * 1.01
    unsteady = SyntheticTimer({"baseline": seconds, "candidate": seconds}, sigma=0.5)
    measure_pairs(unsteady, unsteady.clock, Plan(cap_s=20, target=-1))
    assert unsteady.now <= 20 + 4 * seconds * np.exp(4 * 0.5)


def test_loading_counts_towards_the_cap() -> None:
    timer = SyntheticTimer({"baseline": 0.1, "candidate": 0.1}, sigma=0.5, now=15.0)
    measure_pairs(timer, timer.clock, Plan(cap_s=20), started=0.0)
    assert 19 <= timer.now <= 20.5


def test_why_it_stopped() -> None:
    assert run(seconds=0.001).stopped_by == "precision"
    assert run(seconds=0.14, sigma=0.05).stopped_by == "time"
    assert run(seconds=0.001, sigma=1.0).stopped_by == "samples"


def test_precision_is_not_believed_before_p90_has_its_samples() -> None:
    times = run(seconds=0.001, sigma=1e-6)
    assert times.stopped_by == "precision"
    assert len(times.pairs) == 64
    record = latency_record(times, threads=1)
    assert record.p10_ms is not None
    assert record.p90_ms is not None
    assert record.p10_ms <= record.median_ms <= record.p90_ms


def test_long_passes_need_few_pairs() -> None:
    times = run(speedup=1.5, seconds=1.5)
    assert times.stopped_by == "time"
    assert FEWEST_PAIRS <= len(times.pairs) < 12
    assert times.verdict
    assert times.interval is not None
    assert times.interval.low <= 1.5 <= times.interval.high
    assert times.aa_floor is None
    record = latency_record(times, threads=2)
    assert record.p90_ms is None


def test_passes_as_long_as_the_cap_give_a_time_and_no_verdict() -> None:
    times = run(seconds=25.0)
    record = latency_record(times, threads=2)
    assert (record.samples, record.verdict, record.speedup, record.speedup_ci95) == (1, "none", None, None)
    assert record.median_ms == pytest.approx(25_000, rel=0.1)


def test_the_floor_is_what_two_equal_models_show() -> None:
    """It grows with the noise, does not depend on the candidate's speed, and covers the error of most A/A runs."""
    quiet, noisy = run(sigma=0.005), run(sigma=0.04)
    assert quiet.aa_floor is not None
    assert noisy.aa_floor is not None
    assert quiet.aa_floor < 0.02 < noisy.aa_floor
    assert run(speedup=1.3, sigma=0.005, seed=1).aa_floor == pytest.approx(quiet.aa_floor, abs=0.02)
    errors = [run(seed=s, sigma=0.02) for s in range(30)]
    covered = sum(abs(t.interval.ratio - 1) <= t.aa_floor for t in errors if t.interval and t.aa_floor)
    assert covered >= 27


@pytest.mark.parametrize(("cap_s", "pairs"), [(2.0, 25), (4.0, 50), (20.0, 250)])
def test_a_floor_is_there_for_short_caps_too(cap_s: float, pairs: int) -> None:
    seconds = cap_s / pairs / 2
    timer = SyntheticTimer({"baseline": seconds, "candidate": seconds / 3}, sigma=0.05)
    times = measure_pairs(timer, timer.clock, Plan(cap_s=cap_s))
    assert times.interval is not None
    assert times.aa_floor is not None
    assert timer.now <= 1.2 * cap_s


def test_the_floor_is_for_what_fits() -> None:
    assert [pairs_per_floor(expected, 5) for expected in (3, 17, 18, 30, 42, 1000)] == [
        None,
        None,
        1,
        3,
        5,
        5,
    ]


def test_the_floor_takes_at_most_a_quarter_of_the_time() -> None:
    for speedup in (1.0, 3.0):
        timer = SyntheticTimer({"baseline": 0.1, "candidate": 0.1 / speedup}, sigma=0.05)
        times = measure_pairs(timer, timer.clock, Plan())
        same = (len(times.pairs) // Plan().aa_every) * 2 * 0.1
        assert same <= 0.26 * timer.now


def test_order_is_drawn_and_is_the_seeds() -> None:
    def order(seed: int) -> list[Arm]:
        timer = SyntheticTimer({"baseline": 0.14, "candidate": 0.14}, sigma=0.0)
        measure_pairs(timer, timer.clock, Plan(seed=seed))
        return timer.order

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_trend_does_not_favour_either_side() -> None:
    """The machine slows down steadily by a third during the measurement."""

    @dataclass
    class Slowing:
        now: float = 0.0

        def __call__(self, arm: Arm, pair: int) -> Sample:
            lasts = 0.14 * (1 + self.now / 60)
            self.now += lasts
            return Sample(lasts, False, (lasts,))

    for seed in range(20):
        timer = Slowing()
        times = measure_pairs(timer, lambda timer=timer: timer.now, Plan(seed=seed))  # type: ignore[misc]
        assert times.interval is not None
        assert times.interval.low <= 1 <= times.interval.high


def test_both_sides_of_a_pair_get_the_same_input() -> None:
    seen: list[tuple[Arm, int]] = []
    clock = itertools.count(step=0.01)

    def timer(arm: Arm, pair: int) -> Sample:
        seen.append((arm, pair))
        return Sample(0.01, False, (0.01,))

    times = measure_pairs(timer, lambda: next(clock), Plan(most=70, aa_every=1000, target=-1))
    assert times.stopped_by == "samples"
    pairs = seen[-140:]
    for number in range(70):
        first, second = pairs[2 * number], pairs[2 * number + 1]
        assert {first[0], second[0]} == {"baseline", "candidate"}
        assert first[1] == second[1] == number


def test_record_counts_pairs_and_single_passes() -> None:
    def timer(arm: Arm, pair: int) -> Sample:
        calls = (0.001, 0.003) if arm == "candidate" else (0.004, 0.004)
        return Sample(sum(calls) / 2, pair % 10 == 0, calls)

    clock = itertools.count(step=0.004)
    times = measure_pairs(timer, lambda: next(clock), Plan(most=100, target=-1))
    record = latency_record(times, threads=3)
    assert (record.samples, record.disturbed, record.used, record.threads) == (90, 10, "undisturbed", 3)
    assert record.speedup == pytest.approx(2.0)
    assert record.median_ms == pytest.approx(2.0)
    assert record.p10_ms == pytest.approx(1.0)
    assert record.p90_ms == pytest.approx(3.0)
    assert record.baseline_median_ms == pytest.approx(4.0)
