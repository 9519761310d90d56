"""Replay durations that were measured in another process, so that pytest-benchmark reports them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Recording:
    """A clock that replays durations.

    pytest-benchmark times calls in its own process, but Skyline times candidate and baseline in turn in another one.
    The marker `benchmark` therefore gets `replay_clock` as its timer, and each round of `play` only moves this clock by
    the next duration. Statistics, comparison and JSON come from pytest-benchmark.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def replay_clock(self) -> float:
        """Return the seconds since the round began."""
        return self._now

    def play(self, benchmark: Any, durations: Sequence[float]) -> None:
        """Run one round of the fixture `benchmark`, whose timer is this clock, for each duration in seconds."""
        left = iter(durations)

        def begin() -> None:
            self._now = 0.0

        def end() -> None:
            self._now = next(left, 0.0)

        benchmark.pedantic(end, setup=begin, rounds=len(durations))
