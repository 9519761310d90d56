"""What the seconds of a profile go to, so that what the harness itself costs is told from what it measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from harness.records.schema import Spent

T = TypeVar("T")
Work = Literal["making", "describing", "loading", "passes"]


class Stopwatch:
    """Sums seconds of wall time by what they went to (see `records.Spent`)."""

    def __init__(self) -> None:
        self.seconds: dict[Work, float] = {"making": 0.0, "describing": 0.0, "loading": 0.0, "passes": 0.0}

    @contextmanager
    def on(self, work: Work) -> Iterator[None]:
        """Book the block's seconds as `work`; no other such block may stand in it, or both would count it."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[work] += time.perf_counter() - began

    def add(self, other: Stopwatch) -> None:
        """Add what another process, or another part of this one, spent."""
        for work, seconds in other.seconds.items():
            self.seconds[work] += seconds

    def spent(self, whole_s: float) -> Spent:
        """The record of a cell that took `whole_s` seconds in all; the rest is overhead."""
        booked = {work: round(seconds, 4) for work, seconds in self.seconds.items()}
        return Spent(**booked, overhead=round(max(0.0, whole_s - sum(self.seconds.values())), 4))


def watched(function: Callable[..., T], *args: Any) -> tuple[T, Stopwatch]:
    """What `function(*args, watch)` returns, and the watch: for `run_isolated`, whose child has a clock of its own."""
    watch = Stopwatch()
    return function(*args, watch), watch
