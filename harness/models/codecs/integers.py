"""Weights as eight-bit integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.models.codecs.stage import Stage, require_finite, require_known

INT8_MAX = 127


@dataclass(frozen=True)
class Int8(Stage):
    """Symmetric int8: w ≈ scale · q with q in −127 … 127 and scale = max |w| / 127, per tensor or per row (output
    channel).

    Raises SkylineError (UNKNOWN_NAME) unless `per` is `tensor` or `channel`.
    """

    name: ClassVar[str] = "int8"
    order: ClassVar[int] = 0
    stored_dtype = torch.int8
    keeps: ClassVar[tuple[str, ...]] = ("scale",)
    per: str = "channel"

    def __post_init__(self) -> None:
        require_known("granularity of int8", self.per, ("tensor", "channel"))

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """Raise ValueError unless the scale is float32 of shape () or (rows,)."""
        expected = torch.Size([] if self._one_scale(len(shape)) else [shape[0]])
        scale = beside["scale"]
        if scale.shape != expected or scale.dtype != torch.float32:
            raise ValueError(f"its scale is {scale.dtype} of shape {tuple(scale.shape)}")

    def _one_scale(self, dimensions: int) -> bool:
        return self.per == "tensor" or dimensions < 2

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Quantize by rounding to the nearest; zero stays zero. Raises SkylineError (NOT_FINITE)."""
        require_finite(values)
        largest = values.abs().amax() if self._one_scale(values.dim()) else values.abs().flatten(1).amax(1)
        scale = (largest / INT8_MAX).to(torch.float32)  # () or (rows,)
        divisor = torch.where(scale > 0, scale, torch.ones_like(scale))
        quantized = torch.round(values / _broadcast(divisor, values.dim())).clamp(-INT8_MAX, INT8_MAX)
        return quantized.to(torch.int8), {"scale": scale}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Multiply by the scale."""
        # In place: otherwise the word embeddings would be in memory twice.
        return values.to(torch.float32).mul_(_broadcast(beside["scale"], values.dim()))

    def bits(self, before: float) -> float:
        """Eight."""
        return 8


def _broadcast(scale: Tensor, dimensions: int) -> Tensor:
    return scale if scale.dim() == 0 else scale.view(-1, *[1] * (dimensions - 1))  # (rows, 1, …)
