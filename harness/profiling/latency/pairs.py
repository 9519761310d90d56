"""Paired latency: baseline and candidate are timed in turn; the figure is the median of their ratios, with an interval.

The procedure takes a timer and a clock, so that it can be tested on synthetic noise; the real ones are in
`harness.profiling.latency.timers`. Its rules:

- Of every two pairs one begins with the baseline; which one is drawn. Drift cancels, and a neighbour's rhythm favours
  neither side.
- A pair in which other processes took the processor (see `timers.Disturbance`) is left out and counted.
- If too few pairs are undisturbed for a narrow interval, all pairs are used: load that never pauses affects both sides
  alike.
- Sampling stops at the target precision, at the time cap, or at the largest number of pairs. The precision is computed
  after 64 pairs, and each time their number has grown by a quarter: computing it after every pair would stop at a lucky
  one. An interval wider than ±5 % gives no verdict.
- After every five pairs the baseline is timed against itself by the same procedure, or more often if the time cap
  leaves room for few pairs. This is the noise floor of the machine at that moment.
- Pairs may be taken in several sittings, minutes apart: a ratio drifts with the host's phases by more than the interval
  of one sitting says. Pairs of all sittings are one sample.
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
    """One timed sample: the seconds of each pass (`calls`), their mean, and whether other processes disturbed it."""

    seconds: float
    disturbed: bool
    calls: tuple[float, ...]


class Timer(Protocol):
    """Times one sample of one side. The number `pair` selects the input, the same for both sides."""

    def __call__(self, arm: Arm, pair: int) -> Sample:
        """Time one sample."""


@dataclass(frozen=True)
class Plan:
    """When sampling stops, and how pairs are drawn.

    `cap_s` is wall time in seconds, including the process's start and loading. `target` and `widest` are half-widths of
    the interval, as shares of the ratio. `fewest` is the number of undisturbed pairs at the first look at the interval.
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
        """Whether other processes disturbed either side."""
        return self.baseline.disturbed or self.candidate.disturbed

    @property
    def log_ratio(self) -> float:
        """The logarithm of baseline / candidate."""
        return log_ratio(self.baseline.seconds, self.candidate.seconds)


@dataclass(frozen=True)
class PairedTimes:
    """The result of a paired run. `interval` is None with too few pairs; `used` says which pairs it is made of."""

    pairs: tuple[Pair, ...]
    same: tuple[Pair, ...]
    """Pairs of the baseline against itself."""
    interval: Interval | None
    used: Used
    verdict: bool
    aa_floor: float | None
    stopped_by: StoppedBy
    sittings: int = 1

    @property
    def used_pairs(self) -> list[Pair]:
        """The pairs from which the figures are computed."""
        return [pair for pair in self.pairs if self.used == "all" or not pair.disturbed]

    def calls(self, arm: Arm) -> Floats:
        """Return the seconds of every pass (passes,) of one side in the used pairs."""
        samples = [pair.baseline if arm == "baseline" else pair.candidate for pair in self.used_pairs]
        return np.array([call for sample in samples for call in sample.calls])


@dataclass
class _Pairs:
    """A growing list of pairs."""

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
    """Time pairs until one of the plan's limits is met, and draw the conclusion, from pairs of `earlier` sittings too.

    `clock` returns seconds; the time cap began to run at `started` (now, if absent). No pair begins that
    would end after the cap, judged by the pairs before it; but at least one is taken.
    """
    started = clock() if started is None else started
    pair_s = _warm_up(timer, clock, plan, started)
    rng = np.random.default_rng(plan.seed)
    main_order, same_order = _balanced_order(rng), _balanced_order(rng)
    main = _Pairs.of(() if earlier is None else earlier.pairs)
    same = _Pairs.of(() if earlier is None else earlier.same)
    aa_every = pairs_per_floor((plan.cap_s - (clock() - started)) / pair_s, plan.aa_every)
    look_at = plan.fewest
    rounds: deque[float] = deque(maxlen=plan.aa_every)
    stopped_by: StoppedBy = "time"
    while True:
        round_began = clock()
        main.add(_pair(timer, next(main_order), "candidate", len(main.pairs)))
        if aa_every is not None and len(main.pairs) % aa_every == 0:
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


def pairs_per_floor(expected: float, usual: int) -> int | None:
    """Return after how many pairs the baseline is timed against itself, if the cap leaves time for `expected` pairs.

    Both kinds should get enough pairs for an interval; a pair of baselines may take as long as two others. None if that
    is impossible: then every pair is of the candidate.
    """
    each = min(usual, int(expected / FEWEST_PAIRS) - 2)
    return each if each >= 1 else None


def _warm_up(timer: Timer, clock: Callable[[], float], plan: Plan, started: float) -> float:
    """Run both sides until three rounds in a row are not faster by 2 %, within a share of the cap.

    Returns the seconds of a round.
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
    """Yield whether the baseline comes first: in one of every two pairs, drawn."""
    while True:
        first = bool(rng.random() < 0.5)
        yield first
        yield not first


def _pair(timer: Timer, baseline_first: bool, other: Arm, number: int) -> Pair:
    """Time the baseline and `other`, in the given order."""
    if baseline_first:
        baseline = timer("baseline", number)
        return Pair(baseline, timer(other, number))
    candidate = timer(other, number)
    return Pair(timer("baseline", number), candidate)


def _conclude(pairs: _Pairs, plan: Plan) -> tuple[Interval | None, Used]:
    """Return the interval of the undisturbed pairs, or of all pairs if only that one is narrow enough."""
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
    """Make the record of a paired run. `speedup` is None without a verdict, a percentile without enough samples."""
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
