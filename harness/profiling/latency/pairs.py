"""Paired latency: baseline and candidate in turn, and the median of their ratios with its interval.

The procedure is an algorithm over a timer and a clock, so that it can be tested on synthetic noise;
`harness.profiling.latency.timers` has the real ones. What it rests on:

- Of every two pairs one begins with the baseline, and which one is drawn: drift cancels, and a neighbour's
  rhythm favours neither side.
- A pair in which others took the processor is left out (the timer says so, see `timers.Disturbance`) and
  counted.
- Where too few pairs are undisturbed for a narrow interval, all pairs are used: load that never pauses meets
  both sides alike.
- Sampling stops at the target precision (looked at after 64 pairs, and each time that these have grown by a
  quarter: looking after every pair would stop at a lucky one), at the time cap, or at the most pairs. An
  interval wider than ±5 % then gives no verdict.
- After every five pairs the baseline is timed against itself: the noise floor of this machine, now, by the
  same procedure.
- Pairs may be taken in several sittings, minutes apart: a ratio drifts with the host's phases by more than the
  interval of one sitting says, and pairs of all sittings are one sample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from harness.profiling.latency.statistics import (
    FEWEST_PAIRS,
    Floats,
    Interval,
    log_ratio,
    median_ratio,
    samples_needed,
    tail_percentile,
)
from harness.records.schema import Latency

Arm = Literal["baseline", "candidate"]
StoppedBy = Literal["precision", "time", "samples"]
Used = Literal["undisturbed", "all"]


@dataclass(frozen=True)
class Sample:
    """One timed sample: `seconds` a pass (the mean of its `calls`, each a pass), and whether others disturbed
    it.
    """

    seconds: float
    disturbed: bool
    calls: tuple[float, ...]


class Timer(Protocol):
    """Times one sample of one side. `pair` lets real inputs take turns; both sides of a pair get the same."""

    def __call__(self, arm: Arm, pair: int) -> Sample:
        """Time one sample."""


@dataclass(frozen=True)
class Plan:
    """When to stop. `cap_s` is wall time in seconds, starting the process and loading included; `target` and
    `widest` are half-widths of the interval.
    """

    cap_s: float = 20.0
    target: float = 0.01
    widest: float = 0.05
    fewest: int = samples_needed(90)
    most: int = 2000
    aa_every: int = 5
    warmup_share: float = 0.15
    seed: int = 0


@dataclass(frozen=True)
class Pair:
    """A sample of each side, taken one right after the other."""

    baseline: Sample
    candidate: Sample

    @property
    def disturbed(self) -> bool:
        """Whether others disturbed either side."""
        return self.baseline.disturbed or self.candidate.disturbed

    @property
    def log_ratio(self) -> float:
        """The logarithm of baseline / candidate."""
        return log_ratio(self.baseline.seconds, self.candidate.seconds)


@dataclass(frozen=True)
class PairedTimes:
    """What a paired run found. `interval` is null with too few pairs; `used` says which of the pairs it is
    made of.
    """

    pairs: tuple[Pair, ...]
    same: tuple[Pair, ...]
    """The baseline against itself."""
    interval: Interval | None
    used: Used
    verdict: bool
    aa_floor: float | None
    stopped_by: StoppedBy
    sittings: int = 1

    @property
    def used_pairs(self) -> list[Pair]:
        """The pairs that the figures are made of."""
        return [pair for pair in self.pairs if self.used == "all" or not pair.disturbed]

    def calls(self, arm: Arm) -> Floats:
        """Seconds of every pass of one side in the pairs used."""
        samples = [pair.baseline if arm == "baseline" else pair.candidate for pair in self.used_pairs]
        return np.array([call for sample in samples for call in sample.calls])


@dataclass
class _Pairs:
    """Pairs as they come in."""

    pairs: list[Pair] = field(default_factory=list)
    undisturbed: int = 0

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> _Pairs:
        made = cls()
        for pair in pairs:
            made.add(pair)
        return made

    def add(self, pair: Pair) -> None:
        self.pairs.append(pair)
        self.undisturbed += not pair.disturbed

    def ratios(self, used: Used) -> list[float]:
        return [pair.log_ratio for pair in self.pairs if used == "all" or not pair.disturbed]


def measure_pairs(
    timer: Timer,
    clock: Callable[[], float],
    plan: Plan,
    started: float | None = None,
    earlier: PairedTimes | None = None,
) -> PairedTimes:
    """Time pairs until one of the plan's limits is met, and draw the conclusion, from those of `earlier` sittings too.

    `clock` gives seconds; `started` is when the time cap began to run (now, if absent). The call ends before
    the cap if the next pair takes as long as those before it, but takes one pair at least.
    """
    started = clock() if started is None else started
    pair_s = _warm_up(timer, clock, plan, started)
    rng = np.random.default_rng(plan.seed)
    main_order, same_order = _balanced_order(rng), _balanced_order(rng)
    main = _Pairs.of(() if earlier is None else earlier.pairs)
    same = _Pairs.of(() if earlier is None else earlier.same)
    # The baseline against itself, where there is time for enough such pairs to say anything.
    expected = (plan.cap_s - (clock() - started)) / (pair_s * (1 + 1 / plan.aa_every))
    floor_wanted = expected >= FEWEST_PAIRS * plan.aa_every
    look_at = plan.fewest
    rounds: deque[float] = deque(maxlen=plan.aa_every)
    stopped_by: StoppedBy = "time"
    while True:
        round_began = clock()
        main.add(_pair(timer, next(main_order), "candidate", len(main.pairs)))
        if floor_wanted and len(main.pairs) % plan.aa_every == 0:
            same.add(_pair(timer, next(same_order), "baseline", len(main.pairs)))
        if main.undisturbed >= look_at:
            if median_ratio(main.ratios("undisturbed"), plan.seed).half_width <= plan.target:
                stopped_by = "precision"
                break
            look_at += max(1, look_at // 4)
        rounds.append(clock() - round_began)
        if clock() - started + max(rounds) > plan.cap_s:
            break
        if len(main.pairs) >= plan.most:
            stopped_by = "samples"
            break
    interval, used = _conclude(main, plan)
    floor, _ = _conclude(same, plan)
    return PairedTimes(
        pairs=tuple(main.pairs),
        same=tuple(same.pairs),
        interval=interval,
        used=used,
        verdict=interval is not None and interval.half_width <= plan.widest,
        aa_floor=None if floor is None else floor.distance_from_one,
        stopped_by=stopped_by,
        sittings=1 if earlier is None else earlier.sittings + 1,
    )


def _warm_up(timer: Timer, clock: Callable[[], float], plan: Plan, started: float) -> float:
    """Run both sides until three rounds in a row set no faster time (by 2 %), within a share of the cap.
    Returns seconds a round.
    """
    best: dict[Arm, float] = {}
    began, rounds, settled = clock(), 0, 0
    while settled < 3:
        improved = False
        round_began = clock()
        for arm in ("baseline", "candidate"):
            seconds = timer(arm, rounds).seconds
            if seconds < 0.98 * best.get(arm, float("inf")):
                improved = True
            best[arm] = min(seconds, best.get(arm, seconds))
        rounds += 1
        settled = 0 if improved else settled + 1
        last = clock() - round_began
        late = clock() - started + last > plan.cap_s / 2
        if late or clock() - began + last > plan.warmup_share * plan.cap_s:
            break
    return last


def _balanced_order(rng: np.random.Generator) -> Iterator[bool]:
    """Whether the baseline comes first: once in every two pairs, drawn."""
    while True:
        first = bool(rng.random() < 0.5)
        yield first
        yield not first


def _pair(timer: Timer, baseline_first: bool, other: Arm, number: int) -> Pair:
    """Time the baseline and `other`."""
    if baseline_first:
        baseline = timer("baseline", number)
        return Pair(baseline, timer(other, number))
    candidate = timer(other, number)
    return Pair(timer("baseline", number), candidate)


def _conclude(pairs: _Pairs, plan: Plan) -> tuple[Interval | None, Used]:
    """The interval of the undisturbed pairs, or of all where only that one is narrow enough for a verdict."""
    found: dict[Used, Interval] = {}
    for used in ("undisturbed", "all"):
        ratios = pairs.ratios(used)
        if len(ratios) >= FEWEST_PAIRS:
            found[used] = median_ratio(ratios, plan.seed)
            if found[used].half_width <= plan.widest:
                return found[used], used
    if "undisturbed" in found:
        return found["undisturbed"], "undisturbed"
    return found.get("all"), "all"


def latency_record(times: PairedTimes, threads: int) -> Latency:
    """The record of a paired run. `speedup` is null without a verdict, percentiles without enough samples."""
    candidate, interval = times.calls("candidate") * 1e3, times.interval
    return Latency(
        median_ms=float(np.median(candidate)),
        p10_ms=tail_percentile(candidate, 10),
        p90_ms=tail_percentile(candidate, 90),
        baseline_median_ms=float(np.median(times.calls("baseline")) * 1e3),
        samples=len(times.used_pairs),
        disturbed=sum(pair.disturbed for pair in times.pairs),
        used=times.used,
        speedup=interval.ratio if interval is not None and times.verdict else None,
        speedup_ci95=None if interval is None else (interval.low, interval.high),
        verdict="measured" if times.verdict else "none",
        aa_floor=times.aa_floor,
        stopped_by=times.stopped_by,
        threads=threads,
        sittings=times.sittings,
    )
