"""Ranks as ranges, from simultaneous paired comparisons of all rows.

Two rows differ if their difference, over its standard error, exceeds a critical value that holds for all pairs at once:
the 95th percentile, over bootstrap replicates, of the largest studentised deviation of any pair. With 95 % confidence
no difference is called that is none, so every row's true rank lies in its range (Mogstad, Romano, Shaikh & Wilhelm
2024, "Inference for Ranks with Applications to Mobility across Neighbourhoods and Academic Achievement across
Countries").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leaderboard.boards.seed_noise import Floats

CONFIDENCE = 95.0
"""Of all ranges together, in percent."""
NO_SPREAD = 1e-12
"""A standard error below it (in points) is rounding: the difference of the two rows is the same in all replicates."""


@dataclass(frozen=True)
class RankRange:
    """The ranks that a row may have, from the best to the worst; 1 is the best of all rows."""

    best: int
    worst: int


def rank_ranges(means: Sequence[float], replicates: Floats) -> list[RankRange]:
    """Return the range of each row: 1 + the rows that are significantly better, to all but those that are worse.

    `means` are the rows' qualities, `replicates` (replicates, rows) their paired bootstrap distributions. The
    deviations are taken from the replicates' mean. A difference without spread is significant unless it is zero.
    """
    values = np.asarray(means, dtype=np.float64)
    better = _significantly_above(values, replicates)
    count = len(values)
    return [RankRange(1 + int(better[:, row].sum()), count - int(better[row].sum())) for row in range(count)]


def _significantly_above(means: Floats, replicates: Floats) -> npt.NDArray[np.bool_]:
    """Compute for each pair whether the first row is significantly above the second. Shape (rows, rows)."""
    count = len(means)
    gaps = means[:, None] - means[None, :]  # (rows, rows)
    errors = np.zeros((count, count))
    largest = np.zeros(len(replicates))
    centred = replicates - replicates.mean(axis=0)  # (replicates, rows)
    for row in range(count - 1):
        deviations = centred[:, row, None] - centred[:, row + 1 :]  # (replicates, later rows)
        error = np.sqrt(np.square(deviations).sum(axis=0) / max(1, len(replicates) - 1))
        spread = error > NO_SPREAD
        errors[row, row + 1 :] = errors[row + 1 :, row] = np.where(spread, error, 0.0)
        if spread.any():
            studentised = np.abs(deviations[:, spread]) / error[spread]
            largest = np.maximum(largest, studentised.max(axis=1))
    critical = float(np.percentile(largest, CONFIDENCE)) if len(largest) else 0.0
    above: npt.NDArray[np.bool_] = gaps > np.maximum(critical * errors, NO_SPREAD)
    return above
