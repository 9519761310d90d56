"""Weights in blocks, each an index into a table: product quantization (Jégou et al. 2011; Stock et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.common.errors import SkylineError, unknown_name
from harness.models.codecs.floating import Cast
from harness.models.codecs.stage import Stage

SEED = 0
"""Of the k-means: a codec has no generator, and the same weights must give the same bytes."""
ROUNDS = 20
"""Of the expectation-maximization, as in Quant-Noise's released code."""
SAMPLE = 1 << 16
"""Blocks that a table is fitted to; all of them are then assigned."""
PROBE = 2048
"""Blocks that tell a tensor which was quantized before from one that was not."""
CHUNK = 1 << 11
"""Blocks whose distances to the table are held at once."""


@dataclass(frozen=True)
class Product(Stage):
    """Each row is cut into blocks of `block` neighbouring weights; block i ≈ table[codes[i]], with up to `entries`
    centroids for each tensor, stored as `dtype`.

    A tensor that has no more distinct blocks than entries keeps them, so what was quantized before stays what it
    is. For any other one the table is fitted by k-means on at most 65,536 blocks.
    """

    name: ClassVar[str] = "product"
    order: ClassVar[int] = 0
    keeps: ClassVar[tuple[str, ...]] = ("table",)
    block: int = 8
    entries: int = 256
    dtype: str = "float16"

    def __post_init__(self) -> None:
        if not 1 <= self.block <= 64 or not 2 <= self.entries <= 256:
            raise SkylineError(
                f"codec product({self.block},{self.entries}) is out of range: use blocks of 1 to 64 weights and "
                "2 to 256 entries"
            )
        if self.dtype not in Cast.DTYPES:
            raise unknown_name("floating-point type", self.dtype, Cast.DTYPES)

    @property
    def width(self) -> int:
        """Bits of a code."""
        return (self.entries - 1).bit_length()

    @property
    def stored_dtype(self) -> torch.dtype:
        """A code a byte; `pack` after it makes them `width` bits."""
        return torch.uint8

    def stored_shape(self, shape: torch.Size) -> torch.Size:
        """(…, in / block). Raises SkylineError where blocks do not divide the rows."""
        if not shape or shape[-1] % self.block:
            width = shape[-1] if shape else 1
            raise SkylineError(
                f"blocks of {self.block} weights do not divide rows of {width}; choose a length that does"
            )
        return torch.Size([*shape[:-1], shape[-1] // self.block])

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """A table of at most `entries` blocks."""
        table = beside["table"]
        fits = table.dim() == 2 and 1 <= len(table) <= self.entries and table.shape[1] == self.block
        if not fits or table.dtype != Cast.DTYPES[self.dtype]:
            raise ValueError(f"its table is {table.dtype} of {tuple(table.shape)}")

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Find the table and assign. Raises SkylineError for a weight that is no finite number, one that the table's
        type cannot hold, and rows that blocks do not divide.
        """
        shape = self.stored_shape(values.shape)
        if not torch.isfinite(values).all():
            raise SkylineError("a weight is infinite or no number; train the model again")
        # Adding zero makes -0.0 the 0.0 that it equals.
        blocks = values.reshape(-1, self.block) + 0.0
        found = distinct_blocks(blocks, self.entries)
        if found is not None:
            table, codes = found
            stored, _ = Cast(self.dtype).encode(table)
        else:
            stored, _ = Cast(self.dtype).encode(fit_blocks(blocks, self.entries))
            codes, _ = nearest(blocks, stored.float())
        return codes.to(torch.uint8).view(shape), {"table": stored}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Look up. Raises SkylineError for a code that the table does not have."""
        table, codes = beside["table"].to(torch.float32), values.flatten().int()
        if codes.numel() and int(codes.max()) >= len(table):
            raise SkylineError(
                f"a code lies outside the table of {len(table)} blocks; make the artifact again"
            )
        return table.index_select(0, codes).view(shape)

    def bits(self, before: float) -> float:
        """log₂ K bits a block, rounded up, shared by its weights."""
        return self.width / self.block

    def __str__(self) -> str:
        return f"product({self.block},{self.entries},{self.dtype})"


def distinct_blocks(blocks: Tensor, limit: int) -> tuple[Tensor, Tensor] | None:
    """The different ones of float32 `blocks` (n, b) with the index of each block among them; None where they are more
    than `limit`.
    """
    if len(blocks) > PROBE and len(torch.unique(blocks[:: len(blocks) // PROBE], dim=0)) > limit:
        return None
    # Sorting whole blocks is slow: sort one hash of each, and compare the blocks afterwards.
    generator = torch.Generator().manual_seed(SEED)
    factors = torch.randint(-(1 << 61), 1 << 61, (blocks.shape[1],), generator=generator) * 2 + 1
    hashed = (blocks.view(torch.int32).long() * factors).sum(1)
    hashes, codes = torch.unique(hashed, return_inverse=True)
    if len(hashes) > limit:
        return None
    places = torch.zeros(len(hashes), dtype=torch.long).scatter_(0, codes, torch.arange(len(codes)))
    table = blocks[places]
    return (table, codes) if torch.equal(table[codes], blocks) else None


def fit_blocks(blocks: Tensor, entries: int) -> Tensor:
    """A table (entries, b) for float32 `blocks` (n, b): k-means by expectation-maximization from random blocks.

    An entry that no block is nearest to moves to one of the blocks that are farthest from theirs.
    """
    generator = torch.Generator().manual_seed(SEED)
    order = torch.randperm(len(blocks), generator=generator)[:SAMPLE]
    sample = blocks[order]
    table, before = sample[:entries].clone(), torch.empty(0)
    for _ in range(ROUNDS):
        codes, distances = nearest(sample, table)
        if torch.equal(codes, before):
            break
        before = codes
        counts = torch.bincount(codes, minlength=len(table))
        sums = torch.zeros(table.shape, dtype=torch.float64).index_add_(0, codes, sample.double())
        table = (sums / counts[:, None].clamp_min(1)).float()
        empty = (counts == 0).nonzero().flatten()
        table[empty] = sample[distances.topk(len(empty)).indices]
    return table


def nearest(blocks: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """For each of `blocks` (n, b) the index of the nearest block of `table` (k, b), and the squared distance."""
    codes, distances = [], []
    half = table.square().sum(1) / 2
    for start in range(0, len(blocks), CHUNK):
        part = blocks[start : start + CHUNK]
        # |x − c|² / 2 − |x|² / 2, one row a block.
        least = torch.addmm(half, part, table.t(), alpha=-1).min(1)
        codes.append(least.indices)
        distances.append((2 * least.values + part.square().sum(1)).clamp_min(0))
    return torch.cat(codes), torch.cat(distances)
