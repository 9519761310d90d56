"""Integer codes that a model holds as a parameter, such as the codes of compositional word embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.common.errors import Code, SkylineError
from harness.models.codecs.stage import Stage


@dataclass(frozen=True)
class Codes(Stage):
    """Store integers 0 … 2^width − 1 as bytes, without loss. A following `pack` stores `width` bits for each.

    Raises SkylineError (OUT_OF_RANGE) unless `width` is 1 to 8.
    """

    name: ClassVar[str] = "codes"
    order: ClassVar[int] = 0
    stored_dtype = torch.uint8  # one byte for each code
    width: int = 8

    def __post_init__(self) -> None:
        self.require(1 <= self.width <= 8, "1 to 8 bits")

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Convert to bytes. Raises SkylineError (OUT_OF_RANGE) for a value that is not an integer of `width` bits."""
        codes = values.to(torch.uint8)
        if not torch.equal(codes.to(values.dtype), values) or (values >= 1 << self.width).any():
            raise SkylineError(
                f"a code is not an integer of {self.width} bits; make the model again", Code.OUT_OF_RANGE
            )
        return codes, {}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Convert to float32."""
        return values.to(torch.float32)

    def bits(self, before: float) -> float:
        """`width`."""
        return self.width
