"""Sparse weights: zeros are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from harness.common.errors import Code, SkylineError
from harness.models.codecs.stage import Stage


@dataclass(frozen=True)
class Bitmask(Stage):
    """Store one bit for each weight and, in order, the values that are not zero.

    In float32 this is smaller than dense storage if more than 1/32 of the weights are zero.
    """

    name: ClassVar[str] = "bitmask"
    order: ClassVar[int] = 9
    keeps: ClassVar[tuple[str, ...]] = ("mask",)

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """Raise ValueError unless the mask has one bit for each weight, padded with zeros to whole bytes."""
        check_bits(beside["mask"], shape.numel())

    def kept(self, before: int, beside: Mapping[str, Tensor], shape: torch.Size) -> int:
        """Number of ones in the mask."""
        return int(unpack_bits(beside["mask"], shape.numel()).count_nonzero())

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the values that are not zero (k,) and the packed mask."""
        kept = values != 0
        places = torch.from_numpy(np.flatnonzero(kept.numpy()))
        return values.flatten().index_select(0, places), {"mask": pack_bits(kept)}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Put the values back at the ones of the mask. Raises SkylineError (DAMAGED) if their numbers differ."""
        return spread(values.flatten(), unpack_bits(beside["mask"], shape.numel())).view(shape)


def pack_bits(mask: Tensor) -> Tensor:
    """Pack a mask row by row, eight bits a byte from the highest bit on, and pad the last byte with zeros (uint8)."""
    return torch.from_numpy(np.packbits(mask.flatten().numpy()))


def unpack_bits(bits: Tensor, count: int) -> Tensor:
    """Return the first `count` bits as a mask (count,)."""
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=count).view(np.bool_))


def check_bits(bits: Tensor, count: int) -> None:
    """Raise ValueError unless `bits` is a packed mask of `count` bits."""
    if bits.dtype != torch.uint8 or bits.shape != ((count + 7) // 8,):
        raise ValueError(f"its mask is {bits.dtype} of shape {tuple(bits.shape)}")
    if count % 8 and int(bits[-1]) & (0xFF >> count % 8):
        raise ValueError("its mask has bits after the last weight")


def spread(values: Tensor, kept: Tensor) -> Tensor:
    """Return a tensor with `values`, in order, at the true elements of the mask `kept`, and zeros elsewhere.

    Values (k,) give a tensor of the mask's shape; values (k, width) and a mask (n,) give (n, width). Raises
    SkylineError (DAMAGED) unless the mask has k true elements.
    """
    places = np.flatnonzero(kept.numpy())
    if len(places) != len(values):
        raise SkylineError(
            f"a sparse weight's mask has {len(places)} ones for {len(values)} values: the artifact is corrupted; "
            "make it again",
            Code.DAMAGED,
        )
    if values.dim() > 1:
        return values.new_zeros(*kept.shape, values.shape[1]).index_copy_(0, torch.from_numpy(places), values)
    full = torch.zeros(kept.shape, dtype=values.dtype)
    # NumPy writes to indices a third faster than torch writes to a mask. It has no bfloat16, so bits are copied.
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[values.element_size()]
    full.view(-1).view(bits).numpy()[places] = values.view(bits).numpy()
    return full
