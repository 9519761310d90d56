"""Linear maps whose weight is the product of two matrices."""

from __future__ import annotations

from torch import Tensor, nn


class LowRankLinear(nn.Module):
    """A linear map of rank r: (in × r)(r × out) + bias (Noach & Goldberg 2020, section 3.1)."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, rank, bias=False)
        self.second = nn.Linear(rank, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out)."""
        mapped: Tensor = self.second(self.first(x))
        return mapped


def linear(inputs: int, outputs: int, rank: int | None) -> nn.Module:
    """Make a linear map: dense, or low-rank if a rank is given."""
    return nn.Linear(inputs, outputs) if rank is None else LowRankLinear(inputs, outputs, rank)
