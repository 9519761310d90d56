"""Codes of up to eight bits, packed without gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from harness.common.errors import Code, SkylineError
from harness.models.codecs.stage import Stage


@dataclass(frozen=True)
class Pack(Stage):
    """Store codes 0 … 2^width − 1 (uint8) in `width` bits each: the first code in the highest bits, the last byte
    padded with zeros.

    Raises SkylineError (OUT_OF_RANGE) unless `width` is 1 to 8.
    """

    name: ClassVar[str] = "pack"
    order: ClassVar[int] = 20
    stored_dtype = torch.uint8
    keeps: ClassVar[tuple[str, ...]] = ("count",)
    width: int = 4

    def __post_init__(self) -> None:
        self.require(1 <= self.width <= 8, "1 to 8 bits")

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """Raise ValueError unless the count of codes is one int64 from 0 to the size of the tensor."""
        count = beside["count"]
        if count.dtype != torch.int64 or count.shape != () or not 0 <= int(count) <= shape.numel():
            raise ValueError(f"its count of codes is {count.dtype} of shape {tuple(count.shape)}")

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Pack the codes. Raises SkylineError (OUT_OF_RANGE) for a code of more than `width` bits."""
        if values.dtype != torch.uint8 or (values.numel() and int(values.max()) >= 1 << self.width):
            raise SkylineError(
                f"codes of {values.dtype} do not fit {self.width} bits; choose a wider pack",
                Code.OUT_OF_RANGE,
            )
        bits = np.unpackbits(values.numpy().reshape(-1, 1), axis=1)[:, 8 - self.width :]  # (n, width)
        packed = torch.from_numpy(np.packbits(bits.reshape(-1)))
        return packed, {"count": torch.tensor(values.numel())}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Unpack to (count,), or to `shape` if no code was left out. Raises ValueError if bytes and count disagree."""
        count = int(beside["count"])
        if values.shape != ((count * self.width + 7) // 8,):
            raise ValueError(f"{count} codes of {self.width} bits do not take {values.numel()} bytes")
        unpacked = torch.from_numpy(_unpack(values.numpy(), self.width, count))
        return unpacked.view(shape) if count == shape.numel() else unpacked

    def look_up(self, packed: Tensor, tables: Tensor, count: int) -> Tensor | None:
        """Look up `count` packed codes in `tables` (runs, 2^width) and return their values (count,).

        A window of 8 or 12 bits is looked up at once, so that the codes are never unpacked. Returns None if the codes
        of a run do not fill whole windows, or if the tables of windows would be large compared with the weights.
        """
        window, runs = _window(self.width), len(tables)
        if window is None or packed.shape != ((count * self.width + 7) // 8,):
            return None
        if (runs > 1 and count * self.width % (runs * window)) or len(tables) << window > count // 4:
            return None
        codes = _window_codes(window, self.width).view(np.uint8).reshape(1 << window, -1)  # (2^window, codes)
        values = tables.numpy()[:, codes].reshape(runs << window, -1)  # (runs · 2^window, codes of a window)
        filled = -(-count * self.width // window)
        windows = _windows(packed.numpy(), window)[:filled].reshape(runs, -1)  # (runs, windows of a run)
        if runs > 1:
            windows = windows + (np.arange(runs, dtype=np.int32)[:, None] << window)
        # NumPy takes such short rows three times as fast as torch.
        return torch.from_numpy(np.take(values, windows.reshape(-1), axis=0).reshape(-1)[:count])


def _unpack(packed: np.ndarray[Any, Any], width: int, count: int) -> np.ndarray[Any, Any]:
    """Return the first `count` codes, a window at a time if whole codes fill it."""
    window = _window(width)
    if window is None:
        return _codes(np.unpackbits(packed, count=count * width), width)
    codes: np.ndarray[Any, Any] = _window_codes(window, width)[_windows(packed, window)].view(np.uint8)
    return codes[:count]


def _window(width: int) -> int | None:
    """Return the bits of a window that whole codes fill: 8 or 12. None if neither is a multiple of `width`."""
    return next((window for window in (8, 12) if window % width == 0), None)


def _windows(packed: np.ndarray[Any, Any], window: int) -> np.ndarray[Any, Any]:
    """Return the bytes as integers of `window` bits, 8 or 12."""
    if window == 8:
        return packed
    padded = np.pad(packed, (0, -len(packed) % 3)) if len(packed) % 3 else packed
    first, second, third = (part.astype(np.int32) for part in padded.reshape(-1, 3).T)
    # Three bytes are two windows.
    windows = np.empty((len(first), 2), np.int32)
    windows[:, 0] = first << 4 | second >> 4
    windows[:, 1] = (second & 15) << 8 | third
    return windows.reshape(-1)


def _codes(bits: np.ndarray[Any, Any], width: int) -> np.ndarray[Any, Any]:
    rows = np.pad(bits.reshape(-1, width), ((0, 0), (8 - width, 0)))  # (codes, 8)
    codes: np.ndarray[Any, Any] = np.packbits(rows, axis=1).reshape(-1)
    return codes


@cache
def _window_codes(window: int, width: int) -> np.ndarray[Any, Any]:
    """Return the codes in each integer of `window` bits, (2^window,): one item holds one byte for each code."""
    integers = np.arange(1 << window, dtype=">u2")
    bits = np.unpackbits(integers.view(np.uint8)).reshape(-1, 16)[:, 16 - window :]  # (2^window, window)
    together: np.ndarray[Any, Any] = _codes(bits.reshape(-1), width).view(f"u{window // width}")
    return together
