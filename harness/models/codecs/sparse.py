"""Weights of which the zeros are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from harness.common.errors import SkylineError
from harness.models.codecs.stage import Stage


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
        check_bits(beside["mask"], shape.numel())

    def kept(self, before: int, beside: Mapping[str, Tensor], shape: torch.Size) -> int:
        """The ones of the mask."""
        return int(unpack_bits(beside["mask"], shape.numel()).count_nonzero())

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Pack the mask eight weights a byte, row by row."""
        kept = values != 0
        places = torch.from_numpy(np.flatnonzero(kept.numpy()))
        return values.flatten().index_select(0, places), {"mask": pack_bits(kept)}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Put the values back where the mask has ones. Raises SkylineError where their number does not fit."""
        return spread(values.flatten(), unpack_bits(beside["mask"], shape.numel())).view(shape)


def pack_bits(mask: Tensor) -> Tensor:
    """A mask's bits (uint8), eight a byte from the highest on, row by row; the last byte is filled up with zeros."""
    return torch.from_numpy(np.packbits(mask.flatten().numpy()))


def unpack_bits(bits: Tensor, count: int) -> Tensor:
    """The first `count` bits as a mask (count,)."""
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=count).view(np.bool_))


def check_bits(bits: Tensor, count: int) -> None:
    """Raise a ValueError where `bits` is no packed mask of `count` bits."""
    if bits.dtype != torch.uint8 or bits.shape != ((count + 7) // 8,):
        raise ValueError(f"its mask is {bits.dtype} of shape {tuple(bits.shape)}")
    if count % 8 and int(bits[-1]) & (0xFF >> count % 8):
        raise ValueError("its mask has bits after the last weight")


def spread(values: Tensor, kept: Tensor) -> Tensor:
    """A tensor of the mask's shape with `values`, in order, where the mask is true, and zeros elsewhere; where the
    values are rows (n, k), rows are put there. Raises SkylineError where their number does not fit.
    """
    places = np.flatnonzero(kept.numpy())
    if len(places) != len(values):
        raise SkylineError(
            "a sparse weight's mask does not fit its values: the artifact is corrupted; make it again"
        )
    if values.dim() > 1:
        return values.new_zeros(*kept.shape, values.shape[1]).index_copy_(0, torch.from_numpy(places), values)
    full = torch.zeros(kept.shape, dtype=values.dtype)
    # NumPy writes to places a third faster than torch to a mask; it has no bfloat16, so bits are moved, not numbers.
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[values.element_size()]
    full.view(-1).view(bits).numpy()[places] = values.view(bits).numpy()
    return full
