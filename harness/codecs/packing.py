"""Codes of fewer than eight bits, side by side without gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

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
        unpacked = torch.from_numpy(_unpack(values.numpy(), self.width, count))
        return unpacked.view(shape) if count == shape.numel() else unpacked

    def __str__(self) -> str:
        return f"pack({self.width})"


def _unpack(packed: np.ndarray[Any, Any], width: int, count: int) -> np.ndarray[Any, Any]:
    """The first `count` codes. Several stand in a byte, or in one and a half: they are looked up together."""
    if 8 % width == 0:
        numbers, window = packed, 8
    elif 12 % width == 0:
        threes = np.pad(packed, (0, -len(packed) % 3)).reshape(-1, 3).astype(np.uint16)
        halves = (threes[:, 0] << 4 | threes[:, 1] >> 4, (threes[:, 1] & 15) << 8 | threes[:, 2])
        numbers, window = np.stack(halves, axis=1).reshape(-1), 12
    else:
        return _codes(np.unpackbits(packed, count=count * width), width)
    codes: np.ndarray[Any, Any] = _table(window, width)[numbers].view(np.uint8)[:count]
    return codes


def _codes(bits: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    rows = np.pad(bits.reshape(-1, width), ((0, 0), (8 - width, 0)))
    codes: np.ndarray[Any, Any] = np.packbits(rows, axis=1).reshape(-1)
    return codes


@cache
def _table(window: int, width: int) -> np.ndarray[Any, Any]:
    """The codes in each number of `window` bits, the codes of one number seen as one item."""
    numbers = np.arange(1 << window, dtype=">u2")
    bits = np.unpackbits(numbers.view(np.uint8)).reshape(-1, 16)[:, 16 - window :]
    together: np.ndarray[Any, Any] = _codes(bits.reshape(-1), width).view(f"u{window // width}")
    return together
