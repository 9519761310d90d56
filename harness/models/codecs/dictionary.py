"""Weights as indices into a small table, with the outliers stored exactly (GOBO: Zadeh et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.models.codecs.stage import Stage, require_finite, require_known

LOG_DENSITY = -4.0
"""A weight is an outlier if its log-density under the fitted normal distribution is lower (section IV-A)."""
ROUNDS = 100
"""Most rounds of `fit_table`."""
LEAST_GAIN = 1e-9
"""Relative fall of Σ |w − entry| that another round needs. Smaller changes are rounding errors: an entry that moves
between the two middle weights of its bin does not change the sum.
"""


@dataclass(frozen=True)
class Dictionary(Stage):
    """w ≈ table[code] with 2^width float32 entries for each tensor; outliers are stored with their positions.

    The table starts from the means of equally populated bins of the sorted weights. Then each weight goes to its
    nearest entry and each entry to the mean of its weights, until Σ |w − entry| no longer falls (section IV-B).
    With `outliers="none"` every weight is an index. Raises SkylineError unless `width` is 1 to 8 (OUT_OF_RANGE) and
    `outliers` is `kept` or `none` (UNKNOWN_NAME).
    """

    name: ClassVar[str] = "dictionary"
    order: ClassVar[int] = 0
    stored_dtype = torch.uint8  # one byte for each code
    keeps: ClassVar[tuple[str, ...]] = ("table", "positions", "outliers")
    width: int = 3
    outliers: str = "kept"

    def __post_init__(self) -> None:
        self.require(1 <= self.width <= 8, "1 to 8 bits")
        require_known("handling of outliers", self.outliers, ("kept", "none"))

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """Raise ValueError unless the table is full and each outlier has a position within the tensor."""
        if beside["table"].shape != (1 << self.width,) or beside["table"].dtype != torch.float32:
            raise ValueError(f"its table is {beside['table'].dtype} of {tuple(beside['table'].shape)}")
        positions, values = beside["positions"], beside["outliers"]
        if positions.shape != values.shape or positions.dim() != 1 or positions.dtype != torch.int32:
            raise ValueError(f"it has {positions.numel()} positions for {values.numel()} outliers")
        if positions.numel() and not 0 <= int(positions.min()) <= int(positions.max()) < shape.numel():
            raise ValueError("an outlier lies outside the tensor")

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Find the outliers, and fit the table to the rest. Raises SkylineError (NOT_FINITE)."""
        require_finite(values)
        flat = values.flatten()  # (n,)
        odd = find_outliers(flat) if self.outliers == "kept" else torch.zeros_like(flat, dtype=torch.bool)
        ordinary = flat[~odd]
        table = fit_table(ordinary if len(ordinary) else flat, 1 << self.width)
        codes = torch.bucketize(flat, (table[1:] + table[:-1]) / 2).to(torch.uint8)
        codes[odd] = 0
        beside = {"table": table, "positions": odd.nonzero().flatten().int(), "outliers": flat[odd]}
        return codes.view(values.shape), beside

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Look the codes up, and put the outliers back."""
        found = beside["table"][values.flatten().int()]
        self.amend(found, beside)
        return found.view(shape)

    def tables(self, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """One table for the whole tensor, (1, 2^width)."""
        return beside["table"][None]

    def amend(self, values: Tensor, beside: Mapping[str, Tensor]) -> None:
        """Put the outliers back."""
        values.view(-1)[beside["positions"].long()] = beside["outliers"]

    def bits(self, before: float) -> float:
        """`width`."""
        return self.width


def find_outliers(values: Tensor) -> Tensor:
    """Return a mask (n,) of the `values` (n,) whose log-density under the normal fitted to them is below −4."""
    exact = values.double()
    mean, deviation = exact.mean(), exact.std(correction=0)
    if not deviation > 0:
        return torch.zeros_like(values, dtype=torch.bool)
    density = -0.5 * ((exact - mean) / deviation).square() - math.log(
        float(deviation) * math.sqrt(2 * math.pi)
    )
    return density < LOG_DENSITY


def fit_table(values: Tensor, entries: int) -> Tensor:
    """Fit a table to `values` (n,): float32 (entries,), ascending.

    `values` is sorted once. After that, a round costs one binary search for each entry, however many weights there are.
    """
    ordered = values.double().sort().values  # (n,)
    count = len(ordered)
    sums = torch.cat(
        [ordered.new_zeros(1), ordered.cumsum(0)]
    )  # (n + 1,): sums[i] is the sum of the first i values
    edges = (
        torch.linspace(0, count, entries + 1).round().long()
    )  # bin k holds the values edges[k] … edges[k + 1] − 1
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
    # An empty bin takes the value at its position, so that the table stays ascending.
    return torch.where(sizes > 0, means, ordered[edges[:-1].clamp_max(len(ordered) - 1)])


def _distance(ordered: Tensor, sums: Tensor, edges: Tensor, table: Tensor) -> float:
    """Σ |w − entry| over all bins: the weights below their entry plus the weights above it, from cumulative sums."""
    middle = torch.searchsorted(ordered, table).clamp(edges[:-1], edges[1:])
    below = table * (middle - edges[:-1]) - (sums[middle] - sums[edges[:-1]])
    above = (sums[edges[1:]] - sums[middle]) - table * (edges[1:] - middle)
    return float((below + above).sum())
