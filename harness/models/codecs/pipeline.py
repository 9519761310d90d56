"""A codec: a pipeline of stages. An artifact's configuration holds its text form, such as `int8(channel)+bitmask`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from harness.common.errors import Code, SkylineError, unknown_name
from harness.models.codecs.blocks import Blocks
from harness.models.codecs.codes import Codes
from harness.models.codecs.dictionary import Dictionary
from harness.models.codecs.floating import Cast
from harness.models.codecs.groups import Groups
from harness.models.codecs.integers import Int8
from harness.models.codecs.packing import Pack
from harness.models.codecs.product import Product
from harness.models.codecs.sparse import Bitmask
from harness.models.codecs.stage import Stage
from harness.models.codecs.ternary import Ternary

_STAGES: tuple[type[Stage], ...] = (
    Cast,
    Int8,
    Groups,
    Ternary,
    Dictionary,
    Codes,
    Product,
    Bitmask,
    Blocks,
    Pack,
)
STAGES: dict[str, Callable[..., Stage]] = {stage.name: stage for stage in _STAGES}
"""All stages by name."""


@dataclass(frozen=True)
class Encoded:
    """A tensor as stored: the values after the last stage, and by suffix the other tensors that decoding needs."""

    values: Tensor
    beside: dict[str, Tensor]


@dataclass(frozen=True)
class Codec:
    """A pipeline of stages. Without stages it is `dense`: float32 as it is."""

    stages: tuple[Stage, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Codec:
        """Read a codec's text form: stages joined by `+`, arguments in parentheses; `dense` has no stages.

        Raises SkylineError for an unknown stage (UNKNOWN_NAME), arguments that are not allowed (OUT_OF_RANGE), stages
        in the wrong order (WRONG_ORDER), and sparse storage of codes without a zero (CONFLICT).
        """
        if text == "dense":
            return cls()
        stages = [_parse_stage(part.strip()) for part in text.split("+")]
        if any(first.order >= second.order for first, second in pairwise(stages)):
            raise SkylineError(
                f"codec '{text}' has stages that cannot follow each other; give one that changes values "
                "(as cast and int8 do), then bitmask or blocks, then pack",
                Code.WRONG_ORDER,
            )
        if isinstance(stages[0], Dictionary | Product) and any(
            stage.order == Bitmask.order for stage in stages
        ):
            raise SkylineError(
                f"codec '{text}': a {stages[0].name} has no code for zero; remove the {stages[1].name}",
                Code.CONFLICT,
            )
        return cls(tuple(stages))

    def __str__(self) -> str:
        return "+".join(str(stage) for stage in self.stages) or "dense"

    def with_stage(self, stage: Stage) -> Codec:
        """Return this codec with `stage` inserted by its order; it replaces a stage of the same order."""
        others = [s for s in self.stages if s.order != stage.order]
        return Codec(tuple(sorted([*others, stage], key=lambda s: s.order)))

    def find(self, name: str) -> Stage | None:
        """Return the stage of that name, or None."""
        return next((s for s in self.stages if s.name == name), None)

    @property
    def bits(self) -> float:
        """Bits of one kept weight, without scales and masks."""
        bits = 32.0
        for stage in self.stages:
            bits = stage.bits(bits)
        return bits

    def kept(self, encoded: Encoded, shape: torch.Size) -> int:
        """Return the number of weights that are stored: all but the zeros that a sparse stage leaves out."""
        count = shape.numel()
        for stage in self.stages:
            count = stage.kept(count, encoded.beside, shape)
        return count

    def encode(self, tensor: Tensor) -> Encoded:
        """Encode a float32 tensor. Raises SkylineError if a stage cannot hold its values or shape."""
        values, beside = tensor.detach().to("cpu", torch.float32), dict[str, Tensor]()
        for stage in self.stages:
            values, extra = stage.encode(values)
            beside.update(extra)
        return Encoded(values.contiguous(), beside)

    def decode(self, encoded: Encoded, shape: torch.Size) -> Tensor:
        """Decode to float32 of `shape`. Raises SkylineError if the stored tensors do not fit it (mostly DAMAGED)."""
        if (found := self._look_up(encoded, shape)) is not None:
            return found
        values = self.unpack(encoded, shape)
        for stage in reversed([s for s in self.stages if s.order == 0]):
            values = stage.decode(values, encoded.beside, shape)
        return values.to(torch.float32)

    def _look_up(self, encoded: Encoded, shape: torch.Size) -> Tensor | None:
        """Return the weights directly from packed codes, if a table gives the value of each code.

        Returns None for other codecs, and if the stored tensors do not fit: `unpack` then raises the error.
        """
        if len(self.stages) != 2 or not isinstance(self.stages[1], Pack):
            return None
        coded, pack = self.stages[0], self.stages[1]
        try:
            self._check(encoded, shape)
        except ValueError:
            return None
        count = int(encoded.beside["count"])
        tables = coded.tables(encoded.beside, shape)
        if tables is None or count != shape.numel():
            return None
        values = pack.look_up(encoded.values, tables, count)
        if values is not None:
            coded.amend(values, encoded.beside)
            values = values.view(shape)
        return values

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
        """Undo packing and sparse storage only, and return the tensor in its stored type.

        An int8 codec gives int8 of `shape`; product quantization one code for each block. Raises SkylineError
        (DAMAGED) if the stored tensors do not fit `shape`.
        """
        values, stored = encoded.values, shape
        try:
            self._check(encoded, shape)
            for stage in self.stages:
                stored = stage.stored_shape(stored)
            for stage in reversed([s for s in self.stages if s.order > 0]):
                values = stage.decode(values, encoded.beside, stored)
        except (ValueError, RuntimeError) as error:
            raise SkylineError(
                f"a weight does not fit its codec '{self}' ({error}); make the artifact again", Code.DAMAGED
            ) from None
        if values.shape != stored:
            raise SkylineError(
                f"a weight is stored with shape {tuple(values.shape)} instead of {tuple(stored)}; "
                "make the artifact again",
                Code.DAMAGED,
            )
        return values


def _parse_stage(text: str) -> Stage:
    match = re.fullmatch(r"(\w+)(?:\(([\w,]+)\))?", text)
    if match is None or match[1] not in STAGES:
        raise unknown_name("codec", match[1] if match else text, [*STAGES, "dense"])
    given = [int(part) if part.isdigit() else part for part in (match[2] or "").split(",") if part]
    try:
        return STAGES[match[1]](*given)
    except TypeError:
        raise SkylineError(
            f"codec {match[1]} does not take the argument '{match[2]}'; make the artifact again",
            Code.OUT_OF_RANGE,
        ) from None
