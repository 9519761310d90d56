"""The interface of a codec's stages, and the checks that several of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from harness.common.errors import Code, SkylineError, unknown_name


@dataclass(frozen=True)
class Stage(ABC):
    """One step of a codec. A subclass's fields are the arguments of its text form, in the same order.

    In all methods `shape` is the shape of the whole tensor, and `beside` holds, by suffix, the tensors that `encode`
    returned in addition to the values (scales, masks, tables).
    """

    name: ClassVar[str]
    order: ClassVar[int]
    """The stages of a codec run in this order: 0 changes values, 9 leaves values out, 20 packs bits."""
    keeps: ClassVar[tuple[str, ...]] = ()
    """The suffixes of the tensors that `encode` stores in addition to the values."""

    @property
    def stored_dtype(self) -> torch.dtype | None:
        """Type of the values after this stage; None if the stage keeps their type."""
        return None

    def stored_shape(self, shape: torch.Size) -> torch.Size:
        """Shape of the values after this stage, before any are left out or packed."""
        return shape

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """Raise ValueError if the tensors in `beside` do not fit a tensor of `shape`."""
        return

    @abstractmethod
    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the rewritten `values`, and by suffix the tensors to store with them."""

    @abstractmethod
    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Recover what `encode` was given, or the nearest value that the stored precision allows."""

    def tables(self, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor | None:
        """Return the value of each code, (runs, codes); None if no table gives it.

        The flattened tensor consists of `runs` pieces of equal length; row i is the table of piece i.
        """
        return None

    def amend(self, values: Tensor, beside: Mapping[str, Tensor]) -> None:
        """Apply to values looked up in `tables`, in place, what the tables do not contain."""
        return

    def bits(self, before: float) -> float:
        """Bits of one kept weight after this stage, without scales and masks; `before` is the count until then."""
        return before

    def kept(self, before: int, beside: Mapping[str, Tensor], shape: torch.Size) -> int:
        """Number of weights that are still stored after this stage; `before` is the number until then."""
        return before

    def require(self, allowed: bool, limits: str) -> None:
        """Raise SkylineError (OUT_OF_RANGE) unless the arguments are allowed; `limits` says which ones are."""
        if not allowed:
            raise SkylineError(f"codec {self} is out of range: use {limits}", Code.OUT_OF_RANGE)

    def __str__(self) -> str:
        arguments = ",".join(str(getattr(self, field.name)) for field in fields(self))
        return f"{self.name}({arguments})" if arguments else self.name


def require_known(what: str, name: str, known: Collection[str]) -> None:
    """Raise SkylineError (UNKNOWN_NAME) unless `name` is one of `known`; `what` says what it names."""
    if name not in known:
        raise unknown_name(what, str(name), known)  # a codec's text may give a number


def require_finite(values: Tensor) -> None:
    """Raise SkylineError (NOT_FINITE) if a weight is NaN or infinite."""
    if not torch.isfinite(values).all():
        raise SkylineError("a weight is NaN or infinite; train the model again", Code.NOT_FINITE)
