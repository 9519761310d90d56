"""The noise of training: how much another seed would change a row's difference from the baseline.

Most rows have one seed, so no row's own seeds say how much it scatters. All rows with several seeds on a task say it
together: with differences d of method and baseline on one seed, the task's variance is the sum over those rows and
their seeds of (d - mean of the row)², over the sum of (seeds - 1). A row of S seeds gets noise from N(0, variance / S).

The noise of a row on a task is reproducible from its names: the standard normal numbers of

    np.random.default_rng(int.from_bytes(sha256(f"{recipe}\\n{task}".encode()).digest()[:8], "big"))

in their order, times sqrt(variance / S). It is independent of the examples, and of the noise of all other rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SeedNoise:
    """The noise of one recipe. `variances` are in squared points by task; a task without one has no noise.

    For a difference from another row than the baseline, `against` is that row's recipe, whose noise is subtracted.
    """

    recipe: str
    variances: Mapping[str, float] = field(default_factory=dict)
    against: str | None = None

    def added(self, replicates: Floats | None, task: str, seeds: int) -> Floats | None:
        """Add the noise of a mean over `seeds` seeds to replicates over examples, shape (replicates,)."""
        variance = self.variances.get(task)
        if replicates is None or not variance:
            return replicates
        normal = drawn(self.recipe, task, count=len(replicates))
        if self.against is not None:
            normal = normal - drawn(self.against, task, count=len(replicates))
        noisy: Floats = replicates + np.sqrt(variance / seeds) * normal
        return noisy


NO_NOISE = SeedNoise("")


def drawn(*names: str, count: int) -> Floats:
    """Draw `count` standard normal numbers that depend on the names alone."""
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big")).standard_normal(count)


def pooled_variance(rows: Iterable[Sequence[float]]) -> float | None:
    """Pool the variance of one task over rows: each has its values by seed. None if no row has two seeds."""
    several = [np.asarray(values, dtype=np.float64) for values in rows if len(values) > 1]
    if not several:
        return None
    squares = sum(float(np.square(values - values.mean()).sum()) for values in several)
    return squares / sum(len(values) - 1 for values in several)
