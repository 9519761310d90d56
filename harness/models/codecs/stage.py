"""One step of a codec: what every stage has to say of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stage(ABC):
    """One step of a codec. `encode` returns the rewritten values and the tensors to keep beside them;
    `decode` undoes it.
    """

    name: ClassVar[str]
    order: ClassVar[int]
    """Stages of a codec run in this order: what changes values (0), what leaves some out (9), what packs bits
    (20).
    """
    keeps: ClassVar[tuple[str, ...]] = ()
    """The suffixes of the tensors that `encode` stores beside the values."""

    @property
    def stored_dtype(self) -> torch.dtype | None:
        """The type of the values after this stage; None where it leaves the type as it is."""
        return None

    def stored_shape(self, shape: torch.Size) -> torch.Size:
        """The shape of the values that this stage makes of a tensor of `shape`, where none are left out or packed."""
        return shape

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """Raise a ValueError where the tensors beside the values do not fit a tensor of `shape`."""
        return

    @abstractmethod
    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Rewrite `values`; the dictionary's keys become the suffixes of the tensors stored beside them."""

    @abstractmethod
    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Recover what `encode` was given (or the nearest that its precision allows). `shape` is the whole
        tensor's.
        """

    def tables(self, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor | None:
        """What each code stands for, (runs, codes): a tensor's weights are so many runs of equal length, one behind the
        other. None where codes are no numbers of a table.
        """
        return None

    def amend(self, values: Tensor, beside: Mapping[str, Tensor]) -> None:
        """Change values looked up in `tables`, in place, by what no table says."""
        return

    def bits(self, before: float) -> float:
        """Bits of one kept weight after this stage, given those before it (scales and masks not charged)."""
        return before

    def kept(self, before: int, beside: Mapping[str, Tensor], shape: torch.Size) -> int:
        """How many of the `before` weights, of a tensor of `shape`, are still stored after this stage."""
        return before

    def __str__(self) -> str:
        return self.name
