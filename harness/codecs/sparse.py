"""Weights of which the zeros are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from harness.codecs.stage import Stage
from harness.errors import SkylineError


@dataclass(frozen=True)
class Bitmask(Stage):
    """Store one bit for each weight and, in order, the values that are not zero. Pays from 1/32 zeros on in
    float32.
    """

    name: ClassVar[str] = "bitmask"
    order: ClassVar[int] = 9
    keeps: ClassVar[tuple[str, ...]] = ("mask",)

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """One bit for each weight, the last byte filled up with zeros."""
        mask, count = beside["mask"], shape.numel()
        if mask.dtype != torch.uint8 or mask.shape != ((count + 7) // 8,):
            raise ValueError(f"its mask is {mask.dtype} of shape {tuple(mask.shape)}")
        if count % 8 and int(mask[-1]) & (0xFF >> count % 8):
            raise ValueError("its mask has bits after the last weight")

    def kept(self, before: int, beside: Mapping[str, Tensor]) -> int:
        """The ones of the mask."""
        return int(np.unpackbits(beside["mask"].numpy()).sum())

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Pack the mask eight weights a byte, row by row."""
        kept = values != 0
        packed = np.packbits(kept.flatten().numpy())
        return values[kept], {"mask": torch.from_numpy(packed)}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Put the values back where the mask has ones. Raises SkylineError where their number does not fit."""
        count = shape.numel()
        kept = torch.from_numpy(np.unpackbits(beside["mask"].numpy(), count=count).astype(bool))
        if int(kept.sum()) != values.numel():
            raise SkylineError(
                "a sparse weight's mask does not fit its values: the artifact is corrupted; make it again"
            )
        full = torch.zeros(count, dtype=values.dtype)
        full[kept] = values.flatten()
        return full.view(shape)
