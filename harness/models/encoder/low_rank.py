"""Linear maps stored as the product of two matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from harness.models.batch import AttentionMap as AttentionMap
from harness.models.batch import Batch as Batch
from harness.models.batch import Output as Output
from harness.models.model import INITIALIZER_RANGE as INITIALIZER_RANGE
from harness.models.model import Storage as Storage
from harness.models.model import evaluating as evaluating

if TYPE_CHECKING:
    pass


class LowRankLinear(nn.Module):
    """A linear map stored as the product of two: (in × r)(r × out) + bias (Noach & Goldberg 2020, section
    3.1).
    """

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, rank, bias=False)
        self.second = nn.Linear(rank, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out)."""
        mapped: Tensor = self.second(self.first(x))
        return mapped


def linear(inputs: int, outputs: int, rank: int | None) -> nn.Module:
    """A dense linear map, or its low-rank form where a rank is given."""
    return nn.Linear(inputs, outputs) if rank is None else LowRankLinear(inputs, outputs, rank)
