"""Blocks of weights as indices into a table: product quantization (Jégou et al. 2011; Stock et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.common.errors import Code, SkylineError
from harness.models.codecs.floating import Cast
from harness.models.codecs.stage import Stage, require_finite, require_known

SEED = 0
"""Seed of the k-means. It is fixed, because the same weights must give the same bytes."""
ROUNDS = 20
"""Most rounds of the k-means, as in Quant-Noise's released code."""
SAMPLE = 1 << 16
"""Most blocks that a table is fitted to."""
PROBE = 2048
"""Blocks that are looked at first, to see whether a tensor was quantized before."""
CHUNK = 1 << 11
"""Blocks whose distances to the table are in memory at once."""


@dataclass(frozen=True)
class Product(Stage):
    """Cut each row into blocks of `block` adjacent weights: block i ≈ table[codes[i]], with one table of at most
    `entries` centroids for each tensor, stored as `dtype`.

    A tensor with at most `entries` distinct blocks keeps them, so quantizing twice changes nothing. For any other
    tensor the table is fitted by k-means to at most `SAMPLE` blocks. Raises SkylineError unless `block` is 1 to 64,
    `entries` 2 to 256 (OUT_OF_RANGE), and `dtype` a type of `Cast` (UNKNOWN_NAME).
    """

    name: ClassVar[str] = "product"
    order: ClassVar[int] = 0
    stored_dtype = torch.uint8  # one byte for each code
    keeps: ClassVar[tuple[str, ...]] = ("table",)
    block: int = 8
    entries: int = 256
    dtype: str = "float16"

    def __post_init__(self) -> None:
        allowed = 1 <= self.block <= 64 and 2 <= self.entries <= 256
        self.require(allowed, "blocks of 1 to 64 weights and 2 to 256 entries")
        require_known("floating-point type", self.dtype, Cast.DTYPES)

    @property
    def width(self) -> int:
        """Bits of a code."""
        return (self.entries - 1).bit_length()

    def stored_shape(self, shape: torch.Size) -> torch.Size:
        """Shape of the codes, (…, in / block). Raises SkylineError (WRONG_SHAPE) if `block` does not divide `in`."""
        if not shape or shape[-1] % self.block:
            width = shape[-1] if shape else 1
            raise SkylineError(
                f"blocks of {self.block} weights do not divide rows of {width}; choose a length that does",
                Code.WRONG_SHAPE,
            )
        return torch.Size([*shape[:-1], shape[-1] // self.block])

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """Raise ValueError unless the table has 1 to `entries` blocks of `block` weights, of type `dtype`."""
        table = beside["table"]
        fits = table.dim() == 2 and 1 <= len(table) <= self.entries and table.shape[1] == self.block
        if not fits or table.dtype != Cast.DTYPES[self.dtype]:
            raise ValueError(f"its table is {table.dtype} of {tuple(table.shape)}")

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Fit the table, and assign each block to its nearest entry.

        Raises SkylineError for a weight that is not finite (NOT_FINITE), an entry that overflows `dtype`
        (OUT_OF_RANGE), and a block that does not divide the rows (WRONG_SHAPE).
        """
        shape = self.stored_shape(values.shape)
        require_finite(values)
        # Adding zero turns −0.0 into 0.0, so that blocks of equal values have equal bits.
        blocks = values.reshape(-1, self.block) + 0.0  # (n, block)
        found = distinct_blocks(blocks, self.entries)
        if found is not None:
            table, codes = found
            stored, _ = Cast(self.dtype).encode(table)
        else:
            stored, _ = Cast(self.dtype).encode(fit_blocks(blocks, self.entries))
            codes, _ = nearest(blocks, stored.float())
        return codes.to(torch.uint8).view(shape), {"table": stored}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Look the codes up. Raises SkylineError (DAMAGED) for a code beyond the end of the table."""
        table, codes = beside["table"].to(torch.float32), values.flatten().int()
        if codes.numel() and int(codes.max()) >= len(table):
            raise SkylineError(
                f"a code lies outside the table of {len(table)} blocks; make the artifact again", Code.DAMAGED
            )
        return table.index_select(0, codes).view(shape)  # (n, block) → shape

    def bits(self, before: float) -> float:
        """⌈log₂ entries⌉ / block."""
        return self.width / self.block


def distinct_blocks(blocks: Tensor, limit: int) -> tuple[Tensor, Tensor] | None:
    """Return the distinct float32 `blocks` (n, b) as a table (k, b), and the index of each block in it (n,).

    Returns None if k would exceed `limit`, or if two distinct blocks have the same hash.
    """
    if len(blocks) > PROBE and len(torch.unique(blocks[:: len(blocks) // PROBE], dim=0)) > limit:
        return None
    # Sorting whole blocks is slow: sort their hashes, and compare the blocks afterwards.
    generator = torch.Generator().manual_seed(SEED)
    factors = torch.randint(-(1 << 61), 1 << 61, (blocks.shape[1],), generator=generator) * 2 + 1
    hashed = (blocks.view(torch.int32).long() * factors).sum(1)  # (n,)
    hashes, codes = torch.unique(hashed, return_inverse=True)
    if len(hashes) > limit:
        return None
    places = torch.zeros(len(hashes), dtype=torch.long).scatter_(0, codes, torch.arange(len(codes)))
    table = blocks[places]
    return (table, codes) if torch.equal(table[codes], blocks) else None


def fit_blocks(blocks: Tensor, entries: int) -> Tensor:
    """Fit a table (entries, b) to float32 `blocks` (n, b) by k-means that starts from random blocks.

    An entry without blocks moves to one of the blocks that are farthest from their entries.
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
    """Return for each of `blocks` (n, b) the index of its nearest entry in `table` (k, b), and the squared distance."""
    codes, distances = [], []
    half = table.square().sum(1) / 2
    for start in range(0, len(blocks), CHUNK):
        part = blocks[start : start + CHUNK]
        # |x − c|² / 2 without |x|² / 2, which is the same for all c: |c|² / 2 − x · c, (chunk, k).
        least = torch.addmm(half, part, table.t(), alpha=-1).min(1)
        codes.append(least.indices)
        distances.append((2 * least.values + part.square().sum(1)).clamp_min(0))
    return torch.cat(codes), torch.cat(distances)
