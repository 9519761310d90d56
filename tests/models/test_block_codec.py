"""The blocks codec: exact decoding, stored bytes and counts, and damaged tensors that are refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.common.errors import Code
from harness.models.codecs import Blocks, Codec
from tests.support.codec_checks import nbytes, torn
from tests.support.one_line_errors import refused

SIDES = st.integers(1, 7)


@st.composite
def sparse(draw: st.DrawFn) -> tuple[Tensor, int, int]:
    """A matrix or vector, and rows and columns of its blocks. Some blocks are all zero, some cut at an edge."""
    rows, columns = draw(SIDES), draw(SIDES)
    shape = draw(st.one_of(st.tuples(st.integers(1, 20), st.integers(1, 30)), st.tuples(st.integers(1, 40))))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    tensor = torch.randn(shape, generator=generator)
    matrix = tensor if tensor.dim() == 2 else tensor[None]
    for top in range(0, matrix.shape[0], rows):
        for left in range(0, matrix.shape[1], columns):
            if float(torch.rand((), generator=generator)) < draw(st.sampled_from([0.0, 0.5, 1.0])):
                matrix[top : top + rows, left : left + columns] = 0
    if draw(st.booleans()):  # zeros within stored blocks
        tensor *= torch.rand(shape, generator=generator) < 0.7
    return tensor, rows, columns


def stored_weights(tensor: Tensor, rows: int, columns: int) -> list[float]:
    """The weights of blocks that are not all zero, row by row, found by loops."""
    matrix = (tensor if tensor.dim() == 2 else tensor[None]).tolist()
    full = {
        (i // rows, j // columns) for i, row in enumerate(matrix) for j, weight in enumerate(row) if weight
    }
    return [w for i, row in enumerate(matrix) for j, w in enumerate(row) if (i // rows, j // columns) in full]


@given(sparse())
@settings(max_examples=150, deadline=None)
def test_blocks_are_exact_and_only_full_ones_are_stored(given_: tuple[Tensor, int, int]) -> None:
    tensor, rows, columns = given_
    codec = Codec.parse(f"blocks({rows},{columns})")
    encoded = codec.encode(tensor)
    assert torch.equal(codec.decode(encoded, tensor.shape), tensor)
    expected = stored_weights(tensor, rows, columns)
    assert encoded.values.tolist() == expected
    assert codec.kept(encoded, tensor.shape) == len(expected)
    height, width = tensor.shape if tensor.dim() == 2 else (1, len(tensor))
    blocks = math.ceil(height / rows) * math.ceil(width / columns)
    assert nbytes(encoded) == 4 * len(expected) + math.ceil(blocks / 8)
    assert codec.bits == 32


@given(
    sparse(),
    st.sampled_from(["int8(channel)", "int8(tensor)", "cast(bfloat16)", "groups(4,1)", "ternary(row)"]),
)
@settings(max_examples=150, deadline=None)
def test_blocks_after_what_changes_values(given_: tuple[Tensor, int, int], first: str) -> None:
    tensor, rows, columns = given_
    alone = Codec.parse(first)
    width = {"groups(4,1)": 4, "ternary(row)": 2}.get(first)
    joined = Codec.parse(f"{first}+blocks({rows},{columns})" + (f"+pack({width})" if width else ""))
    encoded = joined.encode(tensor)
    assert torch.equal(joined.decode(encoded, tensor.shape), alone.decode(alone.encode(tensor), tensor.shape))
    assert joined.bits == alone.bits
    whole = alone.encode(tensor).values
    assert torch.equal(joined.unpack(encoded, tensor.shape), whole), "the stored integers"
    count = len(stored_weights(whole, rows, columns))
    assert joined.kept(encoded, tensor.shape) == count
    assert encoded.values.nbytes == math.ceil(count * alone.bits / 8)


def test_one_matrix_by_hand() -> None:
    """Rows of blocks of 2 × 3: pieces of three weights; six bits 1 0 0 1 0 0 are one byte, 144."""
    tensor = torch.tensor([[1.0, 0.0, 2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0, 4.0, 5.0], [0.0] * 6])
    encoded = Codec((Blocks(1, 3),)).encode(tensor)
    assert encoded.values.tolist() == [1.0, 0.0, 2.0, 3.0, 4.0, 5.0]
    assert encoded.beside["mask"].tolist() == [0b10010000]
    # Columns of the same blocks, ragged below: pieces of two weights and of one, two lines of six bits.
    encoded = Codec((Blocks(2, 1),)).encode(tensor)
    assert encoded.values.tolist() == [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 5.0]
    assert encoded.beside["mask"].tolist() == [0b10111100, 0b00000000]


def test_blocks_of_one_are_the_bitmask() -> None:
    tensor = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).relu()
    one, other = Codec.parse("blocks(1,1)").encode(tensor), Codec.parse("bitmask").encode(tensor)
    assert torch.equal(one.values, other.values)
    assert torch.equal(one.beside["mask"], other.beside["mask"])


WEIGHT = torch.tensor([[0.0, 1.5, 0.0, 0.0, 0.25], [1.0, 0.0, 0.0, 0.0, -1.0]])
"""blocks(1,2): pieces 1 0 1 and 1 0 1, with two weights, none and one."""
TORN: dict[str, tuple[str, Callable[[Tensor], Tensor] | None]] = {
    "mask lost": ("mask", None),
    "mask cut": ("mask", lambda t: t[:0]),
    "mask longer": ("mask", lambda t: t.repeat(2)),
    "another block": ("mask", lambda t: t | 0x40),
    "a bit after the end": ("mask", lambda t: t | 1),
    "mask of another type": ("mask", lambda t: t.float()),
    "values lost": ("values", lambda t: t[:-1]),
    "values more": ("values", lambda t: t.repeat(2)),
    "values of another type": ("values", lambda t: t.half()),
}


@pytest.mark.parametrize("case", TORN)
def test_torn_tensors_are_detected(case: str) -> None:
    part, change = TORN[case]
    codec = Codec.parse("blocks(1,2)")
    encoded = codec.encode(WEIGHT)
    assert encoded.beside["mask"].tolist() == [0b10110100]
    assert torch.equal(codec.decode(encoded, WEIGHT.shape), WEIGHT)
    for use in (codec.decode, codec.unpack):
        with refused(Code.DAMAGED, "artifact"):
            use(torn(encoded, part, change), WEIGHT.shape)
