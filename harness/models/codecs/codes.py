"""Whole numbers that are no weights: the codes of word embeddings, and the like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.common.errors import SkylineError
from harness.models.codecs.stage import Stage


@dataclass(frozen=True)
class Codes(Stage):
    """Store whole numbers 0 … 2^width − 1 as bytes, without loss; `pack` after it makes them `width` bits."""

    name: ClassVar[str] = "codes"
    order: ClassVar[int] = 0
    width: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.width <= 8:
            raise SkylineError(f"codec codes({self.width}) is out of range: use 1 to 8 bits")

    @property
    def stored_dtype(self) -> torch.dtype:
        """Bytes."""
        return torch.uint8

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Raises SkylineError for what is no whole number of that many bits."""
        codes = values.to(torch.uint8)
        if not torch.equal(codes.to(values.dtype), values) or (values >= 1 << self.width).any():
            raise SkylineError(f"a code is no whole number of {self.width} bits; make the model again")
        return codes, {}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """The numbers, as float32."""
        return values.to(torch.float32)

    def bits(self, before: float) -> float:
        """`width`."""
        return self.width

    def __str__(self) -> str:
        return f"codes({self.width})"
