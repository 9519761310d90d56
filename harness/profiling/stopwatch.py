"""Books the seconds of a profile by kind of work, so that the harness' own time is told from what it measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from harness.records.schema import Spent

T = TypeVar("T")
Work = Literal["making", "describing", "loading", "passes"]


class Stopwatch:
    """Sums seconds of wall time by kind of work (see `records.schema.Spent`)."""

    def __init__(self) -> None:
        self.seconds: dict[Work, float] = {"making": 0.0, "describing": 0.0, "loading": 0.0, "passes": 0.0}

    @contextmanager
    def on(self, work: Work) -> Iterator[None]:
        """Book the block's seconds as `work`. Do not nest such blocks: both would count the inner one."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[work] += time.perf_counter() - began

    def add(self, other: Stopwatch) -> None:
        """Add the seconds of another stopwatch, such as a child process'."""
        for work, seconds in other.seconds.items():
            self.seconds[work] += seconds

    def spent(self, whole_s: float) -> Spent:
        """Return the record of a cell that took `whole_s` seconds in all; seconds not booked are overhead."""
        booked = {work: round(seconds, 4) for work, seconds in self.seconds.items()}
        return Spent(**booked, overhead=round(max(0.0, whole_s - sum(self.seconds.values())), 4))


def watched(function: Callable[..., T], *args: Any) -> tuple[T, Stopwatch]:
    """Call `function(*args, watch)` in a child of `run_isolated`; return its result and the new stopwatch."""
    watch = Stopwatch()
    return function(*args, watch), watch
