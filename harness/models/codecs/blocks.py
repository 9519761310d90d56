"""Block-sparse weights: blocks that are all zero are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness.models.codecs.sparse import check_bits, pack_bits, spread, unpack_bits
from harness.models.codecs.stage import Stage


@dataclass(frozen=True)
class Blocks(Stage):
    """Store one bit for each block of `rows` × `columns` weights and, row by row, all weights of the blocks that are
    not all zero. `blocks(1,32)` is a piece of a row, `blocks(32,1)` a piece of a column.

    Blocks at the right and lower edge are smaller if the block does not divide the matrix. A vector is one row.
    Raises SkylineError (OUT_OF_RANGE) unless `rows` and `columns` are at least 1.
    """

    name: ClassVar[str] = "blocks"
    order: ClassVar[int] = 9
    keeps: ClassVar[tuple[str, ...]] = ("mask",)
    rows: int = 1
    columns: int = 32

    def __post_init__(self) -> None:
        self.require(min(self.rows, self.columns) >= 1, "at least one row and one column")

    def check(self, beside: Mapping[str, Tensor], shape: torch.Size) -> None:
        """Raise ValueError unless the mask has one bit for each block, padded with zeros to whole bytes."""
        down, across = self._grid(_matrix(shape))
        check_bits(beside["mask"], down * across)

    def kept(self, before: int, beside: Mapping[str, Tensor], shape: torch.Size) -> int:
        """Number of weights in the stored blocks, zeros included."""
        return int(self._weights(beside["mask"], _matrix(shape)).sum())

    def encode(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Leave out the blocks that are all zero."""
        height, width = _matrix(values.shape)
        down, across = self._grid((height, width))
        full = torch.zeros(
            down * self.rows, across * self.columns, dtype=torch.bool
        )  # padded to whole blocks
        full[:height, :width] = (values != 0).view(height, width)
        mask = pack_bits(full.view(down, self.rows, across, self.columns).any(3).any(1))
        return values.view(height, width)[self._weights(mask, (height, width))], {"mask": mask}

    def decode(self, values: Tensor, beside: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
        """Put the stored blocks back. Raises SkylineError (DAMAGED) if their size does not fit the mask."""
        height, width = _matrix(shape)
        if height % self.rows or width % self.columns or values.numel() % self.columns:
            return spread(values.flatten(), self._weights(beside["mask"], (height, width))).view(shape)
        down, across = self._grid((height, width))
        kept = unpack_bits(beside["mask"], down * across).view(down, 1, across).expand(-1, self.rows, -1)
        # Blocks divide the matrix, so pieces of a row are moved instead of single weights: (pieces, columns).
        return spread(values.view(-1, self.columns), kept.reshape(-1)).view(shape)

    def _grid(self, matrix: tuple[int, int]) -> tuple[int, int]:
        height, width = matrix
        return -(-height // self.rows), -(-width // self.columns)  # blocks down and across

    def _weights(self, mask: Tensor, matrix: tuple[int, int]) -> Tensor:
        """Return a mask (height, width) of the weights in stored blocks."""
        height, width = matrix
        down, across = self._grid(matrix)
        kept = unpack_bits(mask, down * across).view(down, across)
        wide = kept[:, None, :, None].expand(down, self.rows, across, self.columns)
        return wide.reshape(down * self.rows, across * self.columns)[:height, :width]


def _matrix(shape: torch.Size) -> tuple[int, int]:
    """Return rows and columns; a tensor that is not a matrix is one row."""
    return (shape[0], shape[1]) if len(shape) == 2 else (1, shape.numel())
