"""Codes of fewer than eight bits, side by side without gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from harness.common.errors import SkylineError
from harness.models.codecs.stage import Stage


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

    def look_up(self, packed: Tensor, tables: Tensor, count: int) -> Tensor | None:
        """What `count` packed codes stand for in `tables` (runs, 2^width), (count,): several codes are looked up at
        once, so no tensor of codes is ever made. None where the codes of a run do not fill whole numbers, or the
        tables of numbers would be large beside the weights.
        """
        window, runs = _window(self.width), len(tables)
        if window is None or packed.shape != ((count * self.width + 7) // 8,):
            return None
        if (runs > 1 and count * self.width % (runs * window)) or len(tables) << window > count // 4:
            return None
        codes = _table(window, self.width).view(np.uint8).reshape(1 << window, -1)
        together = tables.numpy()[:, codes].reshape(runs << window, -1)
        filled = -(-count * self.width // window)
        numbers = _numbers(packed.numpy(), window)[:filled].reshape(runs, -1)
        if runs > 1:
            numbers = numbers + (np.arange(runs, dtype=np.int32)[:, None] << window)
        # NumPy takes rows of so few numbers three times as fast as torch.
        return torch.from_numpy(np.take(together, numbers.reshape(-1), axis=0).reshape(-1)[:count])

    def __str__(self) -> str:
        return f"pack({self.width})"


def _unpack(packed: np.ndarray[Any, Any], width: int, count: int) -> np.ndarray[Any, Any]:
    """The first `count` codes, several looked up together where they stand in whole numbers."""
    window = _window(width)
    if window is None:
        return _codes(np.unpackbits(packed, count=count * width), width)
    codes: np.ndarray[Any, Any] = _table(window, width)[_numbers(packed, window)].view(np.uint8)[:count]
    return codes


def _window(width: int) -> int | None:
    """The bits that hold several whole codes: of a byte, or of one and a half. None where no such number does."""
    return next((window for window in (8, 12) if window % width == 0), None)


def _numbers(packed: np.ndarray[Any, Any], window: int) -> np.ndarray[Any, Any]:
    """Bytes as numbers of `window` bits, 8 or 12."""
    if window == 8:
        return packed
    padded = np.pad(packed, (0, -len(packed) % 3)) if len(packed) % 3 else packed
    first, second, third = (part.astype(np.int32) for part in padded.reshape(-1, 3).T)
    numbers = np.empty((len(first), 2), np.int32)
    numbers[:, 0] = first << 4 | second >> 4
    numbers[:, 1] = (second & 15) << 8 | third
    return numbers.reshape(-1)


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
