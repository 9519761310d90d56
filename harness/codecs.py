"""How one weight tensor is stored: a pipeline of stages, each of which rewrites the values and may add
tensors beside them.

`int8(channel)+bitmask` first maps the values to int8 with one scale a row, then stores a bit for each weight
and the int8 values that are not zero. Every byte that decoding needs is in the file: scales and masks are
tensors like any other.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from harness.errors import SkylineError, unknown_name

INT8_MAX = 127


@dataclass(frozen=True)
class Stage(ABC):
    """One step of a codec. `encode` returns the rewritten values and the tensors to keep beside them;
    `decode` undoes it.
    """

    name: ClassVar[str]
    order: ClassVar[int]
    """Stages of a codec run in this order: first what changes values, then what leaves some out."""
    keeps: ClassVar[tuple[str, ...]] = ()
    """The suffixes of the tensors that `encode` stores beside the values."""

    @property
    def stored_dtype(self) -> torch.dtype | None:
        """The type of the values after this stage; None where it leaves the type as it is."""
        return None

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

    def bits(self, before: float) -> float:
        """Bits of one kept weight after this stage, given those before it (scales and masks not charged)."""
        return before

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Cast(Stage):
    """Store in another floating-point type."""

    name: ClassVar[str] = "cast"
    order: ClassVar[int] = 0
    dtype: str = "float16"
    DTYPES: ClassVar[dict[str, torch.dtype]] = {
        "float32": torch.float32,
        "float16": torch.float16,
        "bfloat16": torch.bfloat16,
    }

    def __post_init__(self) -> None:
        if self.dtype not in self.DTYPES:
            raise unknown_name("floating-point type", self.dtype, self.DTYPES)

    @property
    def stored_dtype(self) -> torch.dtype:
        """The floating-point type."""
        return self.DTYPES[self.dtype]

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Round to the type. Raises SkylineError where a finite weight overflows it."""
        cast = values.to(self.DTYPES[self.dtype])
        if (torch.isfinite(values) & ~torch.isfinite(cast)).any():
            raise SkylineError(f"a weight overflows {self.dtype}; store it as bfloat16 or float32")
        return cast, {}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Widen to float32."""
        return values.to(torch.float32)

    def bits(self, before: float) -> float:
        """16 or 32."""
        return torch.finfo(self.DTYPES[self.dtype]).bits

    def __str__(self) -> str:
        return f"cast({self.dtype})"


@dataclass(frozen=True)
class Int8(Stage):
    """Symmetric int8: w ≈ scale · q with q in −127 … 127, one scale for the tensor or for each row (output
    channel).
    """

    name: ClassVar[str] = "int8"
    order: ClassVar[int] = 0
    keeps: ClassVar[tuple[str, ...]] = ("scale",)
    per: str = "channel"

    def __post_init__(self) -> None:
        if self.per not in ("tensor", "channel"):
            raise unknown_name("granularity of int8", self.per, ("tensor", "channel"))

    @property
    def stored_dtype(self) -> torch.dtype:
        """int8."""
        return torch.int8

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """One float32 scale for the tensor, or for each row."""
        expected = torch.Size([] if self._whole(len(shape)) else [shape[0]])
        scale = beside["scale"]
        if scale.shape != expected or scale.dtype != torch.float32:
            raise ValueError(f"its scale is {scale.dtype} of shape {tuple(scale.shape)}")

    def _whole(self, dimensions: int) -> bool:
        return self.per == "tensor" or dimensions < 2

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Quantize by rounding to the nearest; zero stays zero. Raises SkylineError for a weight that is not finite."""
        if not torch.isfinite(values).all():
            raise SkylineError(
                "a weight is infinite or no number, so it has no int8 form; train the model again"
            )
        largest = values.abs().amax() if self._whole(values.dim()) else values.abs().flatten(1).amax(1)
        scale = (largest / INT8_MAX).to(torch.float32)
        divisor = torch.where(scale > 0, scale, torch.ones_like(scale))
        quantized = torch.round(values / _rows(divisor, values.dim())).clamp(-INT8_MAX, INT8_MAX)
        return quantized.to(torch.int8), {"scale": scale}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Multiply by the scale."""
        # In place: the word embeddings would otherwise stand in memory twice.
        return values.to(torch.float32).mul_(_rows(beside["scale"], values.dim()))

    def bits(self, before: float) -> float:
        """Eight."""
        return 8

    def __str__(self) -> str:
        return f"int8({self.per})"


def _rows(scale: Tensor, dimensions: int) -> Tensor:
    return scale if scale.dim() == 0 else scale.view(-1, *[1] * (dimensions - 1))


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
        mask, count = beside["mask"], shape.numel()
        if mask.dtype != torch.uint8 or mask.shape != ((count + 7) // 8,):
            raise ValueError(f"its mask is {mask.dtype} of shape {tuple(mask.shape)}")
        if count % 8 and int(mask[-1]) & (0xFF >> count % 8):
            raise ValueError("its mask has bits after the last weight")

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Pack the mask eight weights a byte, row by row."""
        kept = values != 0
        packed = np.packbits(kept.flatten().numpy())
        return values[kept], {"mask": torch.from_numpy(packed)}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Put the values back where the mask has ones. Raises SkylineError where their number does not fit."""
        count = shape.numel()
        kept = torch.from_numpy(np.unpackbits(beside["mask"].numpy(), count=count).astype(bool))
        if int(kept.sum()) != values.numel():
            raise SkylineError(
                "a sparse weight's mask does not fit its values: the artifact is corrupted; make it again"
            )
        full = torch.zeros(count, dtype=values.dtype)
        full[kept] = values
        return full.view(shape)


def _bitmask(argument: str | None) -> Bitmask:
    if argument is not None:
        raise SkylineError(f"codec bitmask takes no argument, but '{argument}' was given; leave it out")
    return Bitmask()


STAGES: dict[str, Callable[[str | None], Stage]] = {
    "cast": lambda argument: Cast(argument or "float16"),
    "int8": lambda argument: Int8(argument or "channel"),
    "bitmask": _bitmask,
}


@dataclass(frozen=True)
class Encoded:
    """A tensor as stored: the last stage's values and the tensors beside them, by suffix."""

    values: Tensor
    beside: dict[str, Tensor]


@dataclass(frozen=True)
class Codec:
    """A pipeline of stages; no stage is dense float32."""

    stages: tuple[Stage, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Codec:
        """Read `int8(channel)+bitmask`; `dense` is no stage.

        Raises SkylineError for an unknown stage, and for stages that cannot follow each other.
        """
        if text == "dense":
            return cls()
        stages = []
        for part in text.split("+"):
            match = re.fullmatch(r"(\w+)(?:\((\w+)\))?", part.strip())
            if match is None or match[1] not in STAGES:
                raise unknown_name("codec", match[1] if match else part, [*STAGES, "dense"])
            stages.append(STAGES[match[1]](match[2]))
        if any(first.order >= second.order for first, second in pairwise(stages)):
            raise SkylineError(
                f"codec '{text}' has stages that cannot follow each other; "
                "give one of cast and int8, and bitmask after it"
            )
        return cls(tuple(stages))

    def __str__(self) -> str:
        return "+".join(str(stage) for stage in self.stages) or "dense"

    def with_stage(self, stage: Stage) -> Codec:
        """This codec with `stage` added in its place, or instead of the stage of the same order."""
        others = [s for s in self.stages if s.order != stage.order]
        return Codec(tuple(sorted([*others, stage], key=lambda s: s.order)))

    def find(self, name: str) -> Stage | None:
        """The stage of that name, or None."""
        return next((s for s in self.stages if s.name == name), None)

    @property
    def bits(self) -> float:
        """Bits of one kept weight; masks and scales are not charged here."""
        bits = 32.0
        for stage in self.stages:
            bits = stage.bits(bits)
        return bits

    def encode(self, tensor: Tensor) -> Encoded:
        """Encode a float32 tensor."""
        values, beside = tensor.detach().to("cpu", torch.float32), dict[str, Tensor]()
        for stage in self.stages:
            values, extra = stage.encode(values)
            beside.update(extra)
        return Encoded(values.contiguous(), beside)

    def decode(self, encoded: Encoded, shape: torch.Size) -> Tensor:
        """Decode to float32 of the given shape. Raises SkylineError where the stored tensors do not fit it."""
        values = self.unpack(encoded, shape)
        for stage in reversed([s for s in self.stages if s.order == 0]):
            values = stage.decode(values, encoded.beside, shape)
        return values.to(torch.float32)

    def _check(self, encoded: Encoded, shape: torch.Size) -> None:
        expected = {suffix for stage in self.stages for suffix in stage.keeps}
        if odd := sorted(expected ^ set(encoded.beside)):
            raise ValueError(
                f"its '{odd[0]}' {'is missing' if odd[0] in expected else 'does not belong to it'}"
            )
        types = [stage.stored_dtype for stage in self.stages if stage.stored_dtype is not None]
        if encoded.values.dtype != (types or [torch.float32])[-1]:
            raise ValueError(f"its values are {encoded.values.dtype}")
        for stage in self.stages:
            stage.check(encoded.beside, shape)

    def unpack(self, encoded: Encoded, shape: torch.Size) -> Tensor:
        """Undo only what leaves values out: the full tensor in its stored type (int8 for an int8 codec)."""
        values = encoded.values
        try:
            self._check(encoded, shape)
            for stage in reversed([s for s in self.stages if s.order > 0]):
                values = stage.decode(values, encoded.beside, shape)
        except (ValueError, RuntimeError) as error:
            raise SkylineError(
                f"a weight does not fit its codec '{self}' ({error}); make the artifact again"
            ) from None
        if values.shape != shape:
            raise SkylineError(
                f"a weight of shape {tuple(values.shape)} is stored where {tuple(shape)} belongs; "
                "make the artifact again"
            )
        return values
