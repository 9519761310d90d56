"""Weights of k bits, each group of rows with a range of its own (Q-BERT: Shen et al. 2020, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.common.errors import SkylineError
from harness.models.codecs.stage import Stage


@dataclass(frozen=True)
class Groups(Stage):
    """w ≈ scale · (q − zero), q in 0 … 2^width − 1, scale and zero for each group of neighbouring rows.

    The range of a group spans its smallest and largest weight and 0, and 0 is on the grid, so a pruned weight
    stays pruned. Stored is (q − zero) modulo 2^width: a zero weight's code is 0. Rows that `count` groups
    cannot share evenly are refused; a vector is one group.
    """

    name: ClassVar[str] = "groups"
    order: ClassVar[int] = 0
    keeps: ClassVar[tuple[str, ...]] = ("scale", "zero")
    width: int = 4
    count: int = 1

    def __post_init__(self) -> None:
        if not 2 <= self.width <= 8 or self.count < 1:
            raise SkylineError(
                f"codec groups({self.width},{self.count}) is out of range: use 2 to 8 bits and at least 1 group"
            )

    @property
    def stored_dtype(self) -> torch.dtype:
        """A code a byte; `pack` after it makes them k bits."""
        return torch.uint8

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """A float32 scale and a byte's zero for each group."""
        groups = torch.Size([self._groups(shape)])
        for suffix, dtype in (("scale", torch.float32), ("zero", torch.uint8)):
            if beside[suffix].shape != groups or beside[suffix].dtype != dtype:
                raise ValueError(f"its {suffix} is {beside[suffix].dtype} of {tuple(beside[suffix].shape)}")

    def _groups(self, shape: torch.Size) -> int:
        if len(shape) < 2:
            return 1
        if shape[0] % self.count:
            raise SkylineError(
                f"{self.count} groups do not divide {shape[0]} rows; choose a number that does"
            )
        return self.count

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Round to the nearest step of the group's range. Raises SkylineError for a weight that is not finite."""
        if not torch.isfinite(values).all():
            raise SkylineError("a weight is infinite or no number; train the model again")
        rows = values.reshape(self._groups(values.shape), -1)
        low, high = rows.amin(1).clamp_max(0), rows.amax(1).clamp_min(0)
        top = (1 << self.width) - 1
        # Halves first: the difference of two large weights could overflow.
        scale = (high / top - low / top).to(torch.float32)
        divisor = torch.where(scale > 0, scale, torch.ones_like(scale))[:, None]
        zero = torch.round(-low / divisor[:, 0]).clamp(0, top)
        codes = (rows / divisor).round_().clamp_(-zero[:, None], top - zero[:, None])
        wrapped = codes.to(torch.int16).bitwise_and_(top).to(torch.uint8)
        return wrapped.view(values.shape), {"scale": scale, "zero": zero.to(torch.uint8)}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Unwrap and multiply by the scale."""
        scale, zero = beside["scale"][:, None], beside["zero"][:, None]
        # A byte a weight as long as that does: this is most of what loading takes. The sum wraps, as the codes did.
        codes = (values.reshape(len(scale), -1) + zero).bitwise_and_((1 << self.width) - 1)
        return codes.to(torch.float32).sub_(zero).mul_(scale).view(shape)

    def tables(self, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """One for each group."""
        codes = torch.arange(1 << self.width, dtype=torch.uint8).expand(self._groups(shape), -1)
        return self.decode(codes, beside, codes.shape)

    def bits(self, before: float) -> float:
        """k."""
        return self.width

    def __str__(self) -> str:
        return f"groups({self.width},{self.count})"
