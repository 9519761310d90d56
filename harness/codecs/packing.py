"""Codes of fewer than eight bits, side by side without gaps."""

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
class Pack(Stage):
    """Store codes 0 … 2^bits − 1 (uint8) in `bits` bits each, the first code in the highest bits, the last byte
    filled up with zeros.
    """

    name: ClassVar[str] = "pack"
    order: ClassVar[int] = 20
    keeps: ClassVar[tuple[str, ...]] = ("count",)
    width: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.width <= 8:
            raise SkylineError(f"codec pack({self.width}) is out of range: use 1 to 8 bits")

    @property
    def stored_dtype(self) -> torch.dtype:
        """Bytes."""
        return torch.uint8

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """One count of codes, no larger than the tensor."""
        count = beside["count"]
        if count.dtype != torch.int64 or count.shape != () or not 0 <= int(count) <= shape.numel():
            raise ValueError(f"its count of codes is {count.dtype} of shape {tuple(count.shape)}")

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Pack the codes. Raises SkylineError for one that does not fit."""
        if values.dtype != torch.uint8 or (values.numel() and int(values.max()) >= 1 << self.width):
            raise SkylineError(f"codes of {values.dtype} do not fit {self.width} bits; choose a wider pack")
        bits = np.unpackbits(values.numpy().reshape(-1, 1), axis=1)[:, 8 - self.width :]
        packed = torch.from_numpy(np.packbits(bits.reshape(-1)))
        return packed, {"count": torch.tensor(values.numel())}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Unpack; a tensor that nothing was left out of gets its shape back."""
        count = int(beside["count"])
        if values.shape != ((count * self.width + 7) // 8,):
            raise ValueError(f"{count} codes of {self.width} bits do not take {values.numel()} bytes")
        bits = np.unpackbits(values.numpy(), count=count * self.width).reshape(count, self.width)
        codes = np.packbits(np.pad(bits, ((0, 0), (8 - self.width, 0))), axis=1).reshape(-1)
        unpacked = torch.from_numpy(codes)
        return unpacked.view(shape) if count == shape.numel() else unpacked

    def __str__(self) -> str:
        return f"pack({self.width})"
