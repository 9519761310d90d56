"""A timer in virtual time: a model of a noisy machine sets how long passes last."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from harness.profiling.latency.pairs import Arm, Sample


@dataclass
class SyntheticTimer:
    """Simulates passes of `seconds` on a noisy machine.

    - Noise: normal with deviation `sigma` in the logarithm; a share `tail` of passes is up to twice as long. It does
      not count as disturbed.
    - Drift: the machine's speed wanders by `drift` (in the logarithm) over about two seconds. Not disturbed either.
    - A neighbour computes for the share `duty` of every `period` seconds, and leaves the share `share` of the speed
      meanwhile. Passes that it slows count as `disturbed`, except for a share `blind` of them.
    """

    seconds: dict[Arm, float]
    seed: int = 0
    sigma: float = 0.01
    tail: float = 0.0
    drift: float = 0.0
    duty: float = 0.0
    period: float = 0.1
    share: float = 0.4
    blind: float = 0.0
    now: float = 0.0
    trend: float = 0.0
    order: list[Arm] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.phase = self.rng.uniform(0, self.period)

    def clock(self) -> float:
        return self.now

    def __call__(self, arm: Arm, pair: int) -> Sample:
        self.order.append(arm)
        work = self.seconds[arm] * float(np.exp(self.rng.normal(0, self.sigma) + self.trend))
        if self.rng.random() < self.tail:
            work *= self.rng.uniform(1, 2)
        lasts, waited = self._under_load(work)
        # The drift is an Ornstein-Uhlenbeck process with a time constant of two seconds.
        decay = float(np.exp(-lasts / 2))
        self.trend = self.trend * decay + self.drift * float(np.sqrt(1 - decay**2)) * self.rng.normal()
        self.now += lasts
        seen = waited > 0.02 * lasts and self.rng.random() >= self.blind
        return Sample(lasts, seen, (lasts,))

    def _under_load(self, work: float) -> tuple[float, float]:
        """Return the seconds that `work` seconds take from now on, next to the neighbour, and those lost to it."""
        if self.duty == 0:
            return work, 0.0
        at, left, busy = self.now + self.phase, work, self.duty * self.period
        while True:
            inside = at % self.period
            loaded = inside < busy
            until = (busy if loaded else self.period) - inside
            done = until * (self.share if loaded else 1.0)
            if done >= left:
                at += left / (self.share if loaded else 1.0)
                lasts = at - self.now - self.phase
                return lasts, lasts - work
            left -= done
            at += max(until, 1e-9)
