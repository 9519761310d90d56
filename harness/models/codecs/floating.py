"""Weights in another floating-point type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.common.errors import Code, SkylineError
from harness.models.codecs.stage import Stage, require_known


@dataclass(frozen=True)
class Cast(Stage):
    """Store in another floating-point type. Raises SkylineError (UNKNOWN_NAME) unless `dtype` is in `DTYPES`."""

    name: ClassVar[str] = "cast"
    order: ClassVar[int] = 0
    dtype: str = "float16"
    DTYPES: ClassVar[dict[str, torch.dtype]] = {
        "float32": torch.float32,
        "float16": torch.float16,
        "bfloat16": torch.bfloat16,
    }

    def __post_init__(self) -> None:
        require_known("floating-point type", self.dtype, self.DTYPES)

    @property
    def stored_dtype(self) -> torch.dtype:
        """The type that `dtype` names."""
        return self.DTYPES[self.dtype]

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Round to the type. Raises SkylineError (OUT_OF_RANGE) if a finite weight overflows it."""
        cast = values.to(self.stored_dtype)
        if (torch.isfinite(values) & ~torch.isfinite(cast)).any():
            raise SkylineError(
                f"a weight overflows {self.dtype}; store it as bfloat16 or float32", Code.OUT_OF_RANGE
            )
        return cast, {}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Widen to float32."""
        return values.to(torch.float32)

    def bits(self, before: float) -> float:
        """16 or 32."""
        return torch.finfo(self.stored_dtype).bits
