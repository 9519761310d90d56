"""Weights as eight-bit integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.common.errors import SkylineError, unknown_name
from harness.models.codecs.stage import Stage

INT8_MAX = 127


@dataclass(frozen=True)
class Int8(Stage):
    """Symmetric int8: w ≈ scale · q with q in −127 … 127, one scale for the tensor or for each row (output
    channel).
    """

    name: ClassVar[str] = "int8"
    order: ClassVar[int] = 0
    keeps: ClassVar[tuple[str, ...]] = ("scale",)
    per: str = "channel"

    def __post_init__(self) -> None:
        if self.per not in ("tensor", "channel"):
            raise unknown_name("granularity of int8", self.per, ("tensor", "channel"))

    @property
    def stored_dtype(self) -> torch.dtype:
        """int8."""
        return torch.int8

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """One float32 scale for the tensor, or for each row."""
        expected = torch.Size([] if self._whole(len(shape)) else [shape[0]])
        scale = beside["scale"]
        if scale.shape != expected or scale.dtype != torch.float32:
            raise ValueError(f"its scale is {scale.dtype} of shape {tuple(scale.shape)}")

    def _whole(self, dimensions: int) -> bool:
        return self.per == "tensor" or dimensions < 2

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Quantize by rounding to the nearest; zero stays zero. Raises SkylineError for a weight that is not finite."""
        if not torch.isfinite(values).all():
            raise SkylineError(
                "a weight is infinite or no number, so it has no int8 form; train the model again"
            )
        largest = values.abs().amax() if self._whole(values.dim()) else values.abs().flatten(1).amax(1)
        scale = (largest / INT8_MAX).to(torch.float32)
        divisor = torch.where(scale > 0, scale, torch.ones_like(scale))
        quantized = torch.round(values / _rows(divisor, values.dim())).clamp(-INT8_MAX, INT8_MAX)
        return quantized.to(torch.int8), {"scale": scale}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Multiply by the scale."""
        # In place: the word embeddings would otherwise stand in memory twice.
        return values.to(torch.float32).mul_(_rows(beside["scale"], values.dim()))

    def bits(self, before: float) -> float:
        """Eight."""
        return 8

    def __str__(self) -> str:
        return f"int8({self.per})"


def _rows(scale: Tensor, dimensions: int) -> Tensor:
    return scale if scale.dim() == 0 else scale.view(-1, *[1] * (dimensions - 1))
