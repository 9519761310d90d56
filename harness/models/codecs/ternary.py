"""Weights of three values: −α, 0, α (TWN; TernaryBERT: Zhang et al. 2020, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.common.errors import SkylineError, unknown_name
from harness.models.codecs.stage import Stage

THRESHOLD = 0.7
"""Of the mean |w|: below it a weight becomes zero."""


@dataclass(frozen=True)
class Ternary(Stage):
    """w ≈ α · sign(w) where |w| > 0.7 · mean |w|, else 0; α is the mean |w| of those above. One α and threshold a
    tensor, or one a row. Codes: 0 for zero, 1 for α, 2 for −α.
    """

    name: ClassVar[str] = "ternary"
    order: ClassVar[int] = 0
    keeps: ClassVar[tuple[str, ...]] = ("scale",)
    per: str = "tensor"

    def __post_init__(self) -> None:
        if self.per not in ("tensor", "row"):
            raise unknown_name("granularity of ternary", self.per, ("tensor", "row"))

    @property
    def stored_dtype(self) -> torch.dtype:
        """A code a byte; `pack(2)` after it makes them two bits."""
        return torch.uint8

    def _rows(self, shape: torch.Size) -> int:
        return shape[0] if self.per == "row" and len(shape) > 1 else 1

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """A float32 α for the tensor or for each row."""
        scale = beside["scale"]
        if scale.shape != (self._rows(shape),) or scale.dtype != torch.float32:
            raise ValueError(f"its scale is {scale.dtype} of shape {tuple(scale.shape)}")

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Ternarize. Raises SkylineError for a weight that is not finite."""
        if not torch.isfinite(values).all():
            raise SkylineError("a weight is infinite or no number; train the model again")
        rows = values.reshape(self._rows(values.shape), -1)
        size = rows.abs()
        large = size > THRESHOLD * size.mean(1, keepdim=True)
        above = size * large
        scale = above.sum(1) / large.sum(1).clamp_min(1)
        # A mean of equal numbers is that number, whatever the sum's rounding: what is ternary already stays.
        least = above.masked_fill(~large, torch.inf).amin(1)
        scale = torch.minimum(torch.maximum(scale, least), above.amax(1))
        codes = large.to(torch.uint8) + (large & (rows < 0)).to(torch.uint8)
        return codes.view(values.shape), {"scale": scale.to(torch.float32)}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Multiply by α."""
        codes = values.reshape(len(beside["scale"]), -1)
        signs = (codes == 1).to(torch.int8).sub_((codes == 2).to(torch.int8))
        return signs.to(torch.float32).mul_(beside["scale"][:, None]).view(shape)

    def tables(self, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Of signs, whatever the α; the fourth code is never stored."""
        return torch.tensor([[0.0, 1.0, -1.0, 0.0]])

    def amend(self, values: Tensor, beside: Mapping[str, Tensor]) -> None:
        """Multiply by α."""
        values.view(len(beside["scale"]), -1).mul_(beside["scale"][:, None])

    def bits(self, before: float) -> float:
        """Two."""
        return 2

    def __str__(self) -> str:
        return f"ternary({self.per})"
