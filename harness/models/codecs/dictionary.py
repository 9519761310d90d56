"""Weights as indices into a small table, with the few outliers kept as they are (GOBO: Zadeh et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.common.errors import SkylineError
from harness.models.codecs.stage import Stage

LOG_DENSITY = -4.0
"""Below this log-density of the fitted normal distribution a weight is an outlier (section IV-A)."""
ROUNDS = 100
LEAST_GAIN = 1e-9
"""Of the distance. Between a bin's two middle weights it does not change at all, and rounding may not decide."""


@dataclass(frozen=True)
class Dictionary(Stage):
    """w ≈ table[code] with 2^width float32 entries for each tensor; outliers stand beside with their positions.

    The table starts from the means of equally populated bins of the sorted weights; then each weight goes to its
    nearest entry and each entry to the mean of its weights, until Σ |w − entry| no longer falls (section IV-B).
    Without `outliers` every weight is an index.
    """

    name: ClassVar[str] = "dictionary"
    order: ClassVar[int] = 0
    keeps: ClassVar[tuple[str, ...]] = ("table", "positions", "outliers")
    width: int = 3
    outliers: str = "kept"

    def __post_init__(self) -> None:
        if not 1 <= self.width <= 8:
            raise SkylineError(f"codec dictionary({self.width}) is out of range: use 1 to 8 bits")
        if self.outliers not in ("kept", "none"):
            raise SkylineError(f"codec dictionary keeps outliers or none, not '{self.outliers}'")

    @property
    def stored_dtype(self) -> torch.dtype:
        """A code a byte; `pack` after it makes them k bits."""
        return torch.uint8

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """A full table, and as many positions as outliers, each within the tensor."""
        if beside["table"].shape != (1 << self.width,) or beside["table"].dtype != torch.float32:
            raise ValueError(f"its table is {beside['table'].dtype} of {tuple(beside['table'].shape)}")
        positions, values = beside["positions"], beside["outliers"]
        if positions.shape != values.shape or positions.dim() != 1 or positions.dtype != torch.int32:
            raise ValueError(f"it has {positions.numel()} positions for {values.numel()} outliers")
        if positions.numel() and not 0 <= int(positions.min()) <= int(positions.max()) < shape.numel():
            raise ValueError("an outlier lies outside the tensor")

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Find outliers and the table. Raises SkylineError for a weight that is not finite."""
        if not torch.isfinite(values).all():
            raise SkylineError("a weight is infinite or no number; train the model again")
        flat = values.flatten()
        odd = find_outliers(flat) if self.outliers == "kept" else torch.zeros_like(flat, dtype=torch.bool)
        ordinary = flat[~odd]
        table = fit_table(ordinary if len(ordinary) else flat, 1 << self.width)
        codes = torch.bucketize(flat, (table[1:] + table[:-1]) / 2).to(torch.uint8)
        codes[odd] = 0
        beside = {"table": table, "positions": odd.nonzero().flatten().int(), "outliers": flat[odd]}
        return codes.view(values.shape), beside

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Look up, and put the outliers back."""
        found = beside["table"][values.flatten().int()]
        self.amend(found, beside)
        return found.view(shape)

    def tables(self, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """One for the tensor."""
        return beside["table"][None]

    def amend(self, values: Tensor, beside: Mapping[str, Tensor]) -> None:
        """The outliers."""
        values.view(-1)[beside["positions"].long()] = beside["outliers"]

    def bits(self, before: float) -> float:
        """k."""
        return self.width

    def __str__(self) -> str:
        return f"dictionary({self.width},{self.outliers})"


def find_outliers(values: Tensor) -> Tensor:
    """Which of `values` have a log-density below −4 under the normal distribution fitted to all of them."""
    exact = values.double()
    mean, deviation = exact.mean(), exact.std(correction=0)
    if not deviation > 0:
        return torch.zeros_like(values, dtype=torch.bool)
    density = -0.5 * ((exact - mean) / deviation).square() - math.log(
        float(deviation) * math.sqrt(2 * math.pi)
    )
    return density < LOG_DENSITY


def fit_table(values: Tensor, entries: int) -> Tensor:
    """The table (entries,) in ascending order, float32. `values` is sorted once; a round then costs as many binary
    searches as there are entries, whatever the number of weights.
    """
    ordered = values.double().sort().values
    count = len(ordered)
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    edges = torch.linspace(0, count, entries + 1).round().long()
    table = _means(ordered, sums, edges)
    best, least = table, math.inf
    for _ in range(ROUNDS):
        inner = torch.searchsorted(ordered, (table[1:] + table[:-1]) / 2, right=True)
        edges = torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), count)])
        distance = _distance(ordered, sums, edges, table)
        if distance >= least * (1 - LEAST_GAIN):
            break
        best, least = table, distance
        moved = _means(ordered, sums, edges)
        table = torch.where(edges[1:] > edges[:-1], moved, table)
    return best.float()


def _means(ordered: Tensor, sums: Tensor, edges: Tensor) -> Tensor:
    sizes = edges[1:] - edges[:-1]
    means = (sums[edges[1:]] - sums[edges[:-1]]) / sizes.clamp_min(1)
    # An empty bin takes the value at its place, so that the table stays in order.
    return torch.where(sizes > 0, means, ordered[edges[:-1].clamp_max(len(ordered) - 1)])


def _distance(ordered: Tensor, sums: Tensor, edges: Tensor, table: Tensor) -> float:
    """Σ |w − entry| over bins: what lies below its entry and what lies above, from sums of the sorted weights."""
    middle = torch.searchsorted(ordered, table).clamp(edges[:-1], edges[1:])
    below = table * (middle - edges[:-1]) - (sums[middle] - sums[edges[:-1]])
    above = (sums[edges[1:]] - sums[middle]) - table * (edges[1:] - middle)
    return float((below + above).sum())
