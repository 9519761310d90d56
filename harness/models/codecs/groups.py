"""Weights of k bits, with one range for each group of rows (Q-BERT: Shen et al. 2020, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.common.errors import Code, SkylineError
from harness.models.codecs.stage import Stage, require_finite


@dataclass(frozen=True)
class Groups(Stage):
    """w ≈ scale · (q − zero), q in 0 … 2^width − 1, with one scale and zero for each of `count` groups of adjacent
    rows. A vector is one group.

    The range of a group spans its smallest and largest weight and 0; 0 is on the grid, so a pruned weight stays
    pruned. The stored code is (q − zero) modulo 2^width, so the code of a zero weight is 0. Raises SkylineError
    (OUT_OF_RANGE) unless `width` is 2 to 8 and `count` at least 1.
    """

    name: ClassVar[str] = "groups"
    order: ClassVar[int] = 0
    stored_dtype = torch.uint8  # one byte for each code
    keeps: ClassVar[tuple[str, ...]] = ("scale", "zero")
    width: int = 4
    count: int = 1

    def __post_init__(self) -> None:
        self.require(2 <= self.width <= 8 and self.count >= 1, "2 to 8 bits and at least 1 group")

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """Raise ValueError unless each group has a float32 scale and a uint8 zero."""
        groups = torch.Size([self._groups(shape)])
        for suffix, dtype in (("scale", torch.float32), ("zero", torch.uint8)):
            if beside[suffix].shape != groups or beside[suffix].dtype != dtype:
                raise ValueError(f"its {suffix} is {beside[suffix].dtype} of {tuple(beside[suffix].shape)}")

    def _groups(self, shape: torch.Size) -> int:
        if len(shape) < 2:
            return 1
        if shape[0] % self.count:
            raise SkylineError(
                f"{self.count} groups do not divide {shape[0]} rows; choose a number that does",
                Code.WRONG_SHAPE,
            )
        return self.count

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Round to the nearest step of the group's range.

        Raises SkylineError for a weight that is not finite (NOT_FINITE) and if `count` does not divide the rows
        (WRONG_SHAPE).
        """
        require_finite(values)
        rows = values.reshape(self._groups(values.shape), -1)  # (groups, weights of a group)
        low, high = rows.amin(1).clamp_max(0), rows.amax(1).clamp_min(0)  # (groups,)
        top = (1 << self.width) - 1
        # Divide before subtracting: the difference of two large weights could overflow.
        scale = (high / top - low / top).to(torch.float32)
        divisor = torch.where(scale > 0, scale, torch.ones_like(scale))[:, None]  # (groups, 1)
        zero = torch.round(-low / divisor[:, 0]).clamp(0, top)
        codes = (rows / divisor).round_().clamp_(-zero[:, None], top - zero[:, None])
        wrapped = codes.to(torch.int16).bitwise_and_(top).to(torch.uint8)
        return wrapped.view(values.shape), {"scale": scale, "zero": zero.to(torch.uint8)}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Undo the modulo, and multiply by the scale."""
        scale, zero = beside["scale"][:, None], beside["zero"][:, None]  # (groups, 1)
        # Stay in bytes as long as possible: this takes most of the loading time. The sum wraps, as the codes did.
        codes = (values.reshape(len(scale), -1) + zero).bitwise_and_((1 << self.width) - 1)
        return codes.to(torch.float32).sub_(zero).mul_(scale).view(shape)

    def tables(self, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """One table for each group, (groups, 2^width)."""
        codes = torch.arange(1 << self.width, dtype=torch.uint8).expand(self._groups(shape), -1)
        return self.decode(codes, beside, codes.shape)

    def bits(self, before: float) -> float:
        """`width`."""
        return self.width
