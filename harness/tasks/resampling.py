"""Vectorised bootstrap of metrics. A replicate is given by weights: how often it draws each example."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

BOOTSTRAP_SEED = 20210421
"""Seed of all resampling. It is fixed, so the replicates of two models on one task are paired."""

_CHUNK = 4_000_000
"""Draws in one chunk at most; limits the memory."""

Floats: TypeAlias = npt.NDArray[np.float64]

Statistic: TypeAlias = Callable[[Floats], Floats]
"""Maps weights, shape (chunk, examples), to the metric of each replicate, shape (chunk,)."""


def draws(examples: int, replicates: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the row indices that replicates draw, in chunks of shape (chunk, examples).

    They come from the raw stream of PCG64, which NumPy promises never to change. An index is the upper 32 bits times
    `examples`, divided by 2^32; the deviation from a uniform distribution is at most examples / 2^32.
    """
    stream = np.random.PCG64(BOOTSTRAP_SEED)
    chunk = max(1, _CHUNK // examples)
    for first in range(0, replicates, chunk):
        size = (min(chunk, replicates - first), examples)
        upper = stream.random_raw(size) >> np.uint64(32)
        yield ((upper * np.uint64(examples)) >> np.uint64(32)).astype(np.int64)


def replicate(examples: int, replicates: int, statistics: Mapping[str, Statistic]) -> dict[str, Floats]:
    """Compute every statistic on every replicate: an array of shape (replicates,) for each."""
    parts: dict[str, list[Floats]] = {name: [] for name in statistics}
    for drawn in draws(examples, replicates):
        # One bincount for all replicates: row b counts in the bins from b * examples on.
        shifted = drawn + examples * np.arange(len(drawn))[:, None]  # (chunk, examples)
        counts = np.bincount(shifted.ravel(), minlength=drawn.size).reshape(drawn.shape)  # (chunk, examples)
        weights = counts.astype(np.float64)
        for name, statistic in statistics.items():
            parts[name].append(statistic(weights))
    return {name: np.concatenate(values) for name, values in parts.items()}


def mean_of(values: Floats) -> Statistic:
    """Return the statistic of a metric that is the mean of `values`, shape (examples,)."""
    return lambda weights: weights @ values / len(values)


def _accuracy(predicted: npt.NDArray[Any], gold: npt.NDArray[Any], classes: int) -> Statistic:
    del classes
    return mean_of((predicted == gold).astype(np.float64))


def _f1(predicted: npt.NDArray[Any], gold: npt.NDArray[Any], classes: int) -> Statistic:
    del classes
    hits = ((predicted == 1) & (gold == 1)).astype(np.float64)
    marked = (predicted == 1).astype(np.float64) + (gold == 1)
    return lambda weights: _ratio(2.0 * (weights @ hits), weights @ marked)


def _matthews(predicted: npt.NDArray[Any], gold: npt.NDArray[Any], classes: int) -> Statistic:
    """R_K of Gorodkin (2004), equation 8; for two classes it is Matthews' coefficient."""
    agree = (predicted == gold).astype(np.float64)
    identity = np.eye(classes)

    def statistic(weights: Floats) -> Floats:
        total = weights.sum(axis=1)  # (chunk,)
        as_predicted, as_gold = weights @ identity[predicted], weights @ identity[gold]  # (chunk, classes)
        covariance = (weights @ agree) * total - (as_predicted * as_gold).sum(axis=1)
        spread = (total**2 - (as_predicted**2).sum(axis=1)) * (total**2 - (as_gold**2).sum(axis=1))
        return _ratio(covariance, np.sqrt(spread))

    return statistic


def _pearson(predicted: npt.NDArray[Any], gold: npt.NDArray[Any], classes: int) -> Statistic:
    del classes
    return lambda weights: _correlation(
        weights, np.broadcast_to(predicted, weights.shape), np.broadcast_to(gold, weights.shape)
    )


def _spearman(predicted: npt.NDArray[Any], gold: npt.NDArray[Any], classes: int) -> Statistic:
    del classes
    return lambda weights: _correlation(weights, _ranks(weights, predicted), _ranks(weights, gold))


STATISTICS: dict[str, Callable[[npt.NDArray[Any], npt.NDArray[Any], int], Statistic]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews_correlation": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}


def _ranks(weights: Floats, values: npt.NDArray[Any]) -> Floats:
    """Rank examples within each replicate, shape (chunk, examples). Ties and repeated draws share their mean rank."""
    _, position = np.unique(values, return_inverse=True)  # index among the distinct values
    order = np.argsort(position, kind="stable")
    starts = np.flatnonzero(np.diff(position[order], prepend=-1))
    counts = np.add.reduceat(weights[:, order], starts, axis=1)  # (chunk, distinct values)
    ranks: Floats = (np.cumsum(counts, axis=1) - counts + (counts + 1.0) / 2.0)[:, position]
    return ranks


def _correlation(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Weighted Pearson correlation of each replicate, shape (chunk,); 0 if either side is constant."""
    total = weights.sum(axis=1, keepdims=True)
    dx = x - (weights * x).sum(axis=1, keepdims=True) / total
    dy = y - (weights * y).sum(axis=1, keepdims=True) / total
    covariance = (weights * dx * dy).sum(axis=1)
    spread = np.sqrt((weights * dx**2).sum(axis=1)) * np.sqrt((weights * dy**2).sum(axis=1))
    # By rounding, the spread of a constant is not exactly zero: detect constants by their range.
    spread[_constant(weights, x) | _constant(weights, y)] = 0.0
    return np.clip(_ratio(covariance, spread), -1.0, 1.0)


def _constant(weights: Floats, values: Floats) -> npt.NDArray[np.bool_]:
    drawn = weights > 0
    high = np.where(drawn, values, -np.inf).max(axis=1)
    low = np.where(drawn, values, np.inf).min(axis=1)
    constant: npt.NDArray[np.bool_] = high == low
    return constant


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return numerator / denominator, and 0 for a denominator of 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
