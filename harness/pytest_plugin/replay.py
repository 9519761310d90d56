"""Durations that were measured in another process, handed to pytest-benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Recording:
    """A clock that plays durations back: pytest-benchmark times its own calls, but what is measured here ran in turn
    with the baseline in another process.

    `replay_clock` stands in for the timer (the marker `benchmark` takes one); each round of `play` does nothing but
    let it show the next duration. Statistics, comparison and JSON are pytest-benchmark's.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def replay_clock(self) -> float:
        """Seconds since the round began."""
        return self._now

    def play(self, benchmark: Any, durations: Sequence[float]) -> None:
        """Hand durations in seconds over to the fixture `benchmark`, whose timer is this clock: a round each."""
        left = iter(durations)

        def begin() -> None:
            self._now = 0.0

        def end() -> None:
            self._now = next(left, 0.0)

        benchmark.pedantic(end, setup=begin, rounds=len(durations))
