"""Costs by length: a cost that is a polynomial of the length is computed at a few lengths and interpolated.

The work of a layer over n tokens is n(4HP + 2HF) + 2n²P multiply-adds, so costs of full attention lie on a parabola.
Costs of a layer that keeps at most k tokens lie on one parabola up to k and on another one from k.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Costs = NDArray[np.int64]
"""Several costs of one pass (costs,), as whole numbers."""


def at_lengths(
    cost: Callable[[int], Costs], lengths: Iterable[int], kinks: Iterable[int] = ()
) -> dict[int, Costs]:
    """Return `cost(n)` for each of the lengths n.

    Between two `kinks` it is computed at three lengths and interpolated by a parabola, if the parabola also meets it
    exactly at three more; otherwise the lengths are halved and each half is treated alike. Fewer than seven lengths are
    all computed.
    """
    ordered = sorted(set(lengths))
    computed: dict[int, Costs] = {}
    found: dict[int, Costs] = {}

    def computed_at(length: int) -> Costs:
        if length not in computed:
            computed[length] = cost(length)
        return computed[length]

    def fill(part: Sequence[int]) -> None:
        last = len(part) - 1
        middle = last // 2
        if last < 6:
            found.update({length: computed_at(length) for length in part})
            return
        known = [part[0], part[middle], part[last]]
        checks = [part[middle // 2], part[middle + 1], part[(middle + last) // 2 + 1]]
        curve = _parabola(known, [computed_at(length) for length in known])
        if all(np.array_equal(curve(length), computed_at(length)) for length in checks):
            found.update({length: curve(length) for length in part})
            return
        fill(part[: middle + 1])
        fill(part[middle + 1 :])

    edges = [0, *sorted(set(kinks)), max(ordered, default=0)]
    for low, high in pairwise(edges):
        if part := [length for length in ordered if low < length <= high]:
            fill(part)
    return {length: found[length] for length in ordered}


def _parabola(lengths: Sequence[int], costs: Sequence[Costs]) -> Callable[[int], Costs]:
    """Return the parabola through three points (Lagrange), rounded to whole numbers."""
    a, b, c = lengths
    at_a, at_b, at_c = (each.astype(np.float64) for each in costs)

    def value(n: int) -> Costs:
        terms = (
            at_a * ((n - b) * (n - c) / ((a - b) * (a - c))),
            at_b * ((n - a) * (n - c) / ((b - a) * (b - c))),
            at_c * ((n - a) * (n - b) / ((c - a) * (c - b))),
        )
        return np.rint(sum(terms)).astype(np.int64)

    return value
