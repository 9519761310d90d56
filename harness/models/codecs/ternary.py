"""Weights of three values: −α, 0, α (TWN; TernaryBERT: Zhang et al. 2020, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.models.codecs.stage import Stage, require_finite, require_known

THRESHOLD = 0.7
"""A weight becomes zero if |w| is at most this share of the mean |w|."""


@dataclass(frozen=True)
class Ternary(Stage):
    """w ≈ α · sign(w) if |w| > 0.7 · mean |w|, else 0; α is the mean |w| of the weights above the threshold.

    α and threshold are computed per tensor or per row. Codes: 0 for zero, 1 for α, 2 for −α. Raises SkylineError
    (UNKNOWN_NAME) unless `per` is `tensor` or `row`.
    """

    name: ClassVar[str] = "ternary"
    order: ClassVar[int] = 0
    stored_dtype = torch.uint8  # one byte for each code
    keeps: ClassVar[tuple[str, ...]] = ("scale",)
    per: str = "tensor"

    def __post_init__(self) -> None:
        require_known("granularity of ternary", self.per, ("tensor", "row"))

    def _scales(self, shape: torch.Size) -> int:
        return shape[0] if self.per == "row" and len(shape) > 1 else 1

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """Raise ValueError unless α is float32 of shape (1,) or (rows,)."""
        scale = beside["scale"]
        if scale.shape != (self._scales(shape),) or scale.dtype != torch.float32:
            raise ValueError(f"its scale is {scale.dtype} of shape {tuple(scale.shape)}")

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Ternarize. Raises SkylineError (NOT_FINITE) for a weight that is not finite."""
        require_finite(values)
        rows = values.reshape(self._scales(values.shape), -1)  # (scales, weights of a scale)
        size = rows.abs()
        large = size > THRESHOLD * size.mean(1, keepdim=True)
        above = size * large
        scale = above.sum(1) / large.sum(1).clamp_min(1)  # (scales,)
        # Clamp the mean between its smallest and largest term, so that rounding leaves a ternary tensor as it is.
        least = above.masked_fill(~large, torch.inf).amin(1)
        scale = torch.minimum(torch.maximum(scale, least), above.amax(1))
        codes = large.to(torch.uint8) + (large & (rows < 0)).to(torch.uint8)
        return codes.view(values.shape), {"scale": scale.to(torch.float32)}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Multiply the signs by α."""
        codes = values.reshape(len(beside["scale"]), -1)  # (scales, weights of a scale)
        signs = (codes == 1).to(torch.int8).sub_((codes == 2).to(torch.int8))
        return signs.to(torch.float32).mul_(beside["scale"][:, None]).view(shape)

    def tables(self, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """One table of signs, (1, 4); `amend` multiplies by α. The fourth code is never stored."""
        return torch.tensor([[0.0, 1.0, -1.0, 0.0]])

    def amend(self, values: Tensor, beside: Mapping[str, Tensor]) -> None:
        """Multiply by α."""
        values.view(len(beside["scale"]), -1).mul_(beside["scale"][:, None])

    def bits(self, before: float) -> float:
        """Two."""
        return 2
