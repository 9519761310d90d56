"""Codecs of fewer than eight bits: ranges per group, ternary weights and packed bits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.common.errors import Code
from harness.models.codecs import Codec, Groups, Pack
from tests.support.codec_checks import nbytes, there_and_back
from tests.support.one_line_errors import refused


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """Matrices of 1 to 12 rows, with and without zeros, of one sign or both."""
    rows, columns = draw(st.sampled_from([1, 4, 6, 12])), draw(st.integers(1, 30))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    tensor = torch.randn(rows, columns, generator=generator) * draw(st.sampled_from([1e-6, 0.02, 50.0]))
    if draw(st.booleans()):
        tensor = tensor.abs()
    kept = torch.rand(rows, columns, generator=generator) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    return tensor * kept


@given(st.lists(st.integers(0, 255), max_size=70), st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_packed_bits_are_the_codes_in_binary(codes: list[int], width: int) -> None:
    codes = [code % (1 << width) for code in codes]
    stage, tensor = Pack(width), torch.tensor(codes, dtype=torch.uint8)
    packed, beside = stage.encode(tensor)
    text = "".join(f"{code:0{width}b}" for code in codes)
    assert packed.tolist() == [int(text[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(text), 8)]
    assert stage.decode(packed, beside, tensor.shape).tolist() == codes


def test_a_code_too_large_is_refused() -> None:
    with refused(Code.OUT_OF_RANGE, "2 bits"):
        Pack(2).encode(torch.tensor([4], dtype=torch.uint8))


@given(matrices(), st.integers(2, 8), st.sampled_from([1, 2, 3]))
@settings(max_examples=150, deadline=None)
def test_groups_are_within_half_a_step_of_their_own_range(tensor: Tensor, width: int, count: int) -> None:
    count = math.gcd(count, tensor.shape[0])
    text = f"groups({width},{count})+pack({width})"
    decoded = there_and_back(text, tensor)
    groups, found = tensor.view(count, -1).double(), decoded.view(count, -1).double()
    span = groups.amax(1).clamp_min(0) - groups.amin(1).clamp_max(0)
    step = (span / ((1 << width) - 1))[:, None]
    # The grid holds 0, so its ends lie up to half a step off the range's.
    assert ((found - groups).abs() <= step * (1 + 1e-4)).all()
    inside = ((groups - groups.amax(1, keepdim=True)).abs() > step) & (
        (groups - groups.amin(1, keepdim=True)).abs() > step
    )
    assert ((found - groups).abs()[inside] <= step.expand_as(found)[inside] * (0.5 + 1e-4)).all()
    assert all(len(row.unique()) <= 1 << width for row in decoded.view(count, -1))
    assert not decoded[tensor == 0].any(), "a zero moved"
    assert torch.equal(there_and_back(f"groups({width},{count})+bitmask+pack({width})", tensor), decoded)


def test_groups_by_hand() -> None:
    """Two groups of one row: [-1, 0, 2] in 2 bits has step 1 and zero 1; [0, 3, 6] has step 2 and zero 0."""
    tensor = torch.tensor([[-1.0, 0.0, 2.0], [0.0, 3.0, 6.0]])
    encoded = Codec((Groups(2, 2),)).encode(tensor)
    assert encoded.beside["scale"].tolist() == [1.0, 2.0]
    assert encoded.beside["zero"].tolist() == [1, 0]
    # −1 is 3 modulo 4; 3 is one step and a half, and rounds to the even 2.
    assert encoded.values.tolist() == [[3, 0, 2], [0, 2, 3]]
    assert there_and_back("groups(2,2)", tensor).tolist() == [[-1.0, 0.0, 2.0], [0.0, 4.0, 6.0]]


def test_more_groups_err_less_if_rows_differ() -> None:
    tensor = (
        torch.randn(12, 50, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 0, 12)[:, None]
    )
    errors = [float((there_and_back(f"groups(4,{n})", tensor) - tensor).square().sum()) for n in (1, 3, 12)]
    assert errors == sorted(errors, reverse=True)


def test_groups_that_do_not_divide_the_rows() -> None:
    with refused(Code.WRONG_SHAPE, "5 groups", "12 rows"):
        Codec.parse("groups(4,5)").encode(torch.ones(12, 3))


@given(matrices(), st.sampled_from(["tensor", "row"]))
@settings(max_examples=100, deadline=None)
def test_ternary_weights_minimise_as_in_the_paper(tensor: Tensor, per: str) -> None:
    decoded = there_and_back(f"ternary({per})+pack(2)", tensor)
    for weights, found in zip(*(t if per == "row" else t[None] for t in (tensor, decoded)), strict=True):
        large = weights.abs() > 0.7 * weights.abs().mean()
        alpha = weights.abs()[large].mean() if large.any() else torch.tensor(0.0)
        assert torch.allclose(found, alpha * weights.sign() * large, rtol=1e-5, atol=0)
    assert torch.allclose(there_and_back(f"ternary({per})", decoded), decoded, rtol=1e-5)
    assert torch.equal(there_and_back(f"ternary({per})+bitmask+pack(2)", tensor), decoded)


def test_bytes_are_packed_codes_ranges_and_a_count() -> None:
    tensor = torch.randn(12, 10, generator=torch.Generator().manual_seed(1))
    assert nbytes(Codec.parse("groups(3,4)+pack(3)").encode(tensor)) == 45 + 4 * (4 + 1) + 8
    assert nbytes(Codec.parse("ternary(tensor)+pack(2)").encode(tensor)) == 30 + 4 + 8
    assert Codec.parse("groups(3,4)+pack(3)").bits == 3


def test_kept_weights_are_counted_before_packing() -> None:
    tensor = torch.tensor([[0.0, 5.0, -5.0, 0.0, 1.0], [0.0, 0.0, 4.0, 0.0, 0.0]])
    for text, kept in (
        ("bitmask", 4),
        ("groups(4,2)+bitmask+pack(4)", 4),
        ("groups(4,2)+pack(4)", 10),
        ("dense", 10),
    ):
        codec = Codec.parse(text)
        assert codec.kept(codec.encode(tensor), tensor.shape) == kept


@pytest.mark.parametrize(
    ("text", "shape", "at_once"),
    [
        ("groups(4,8)+pack(4)", (128, 96), True),
        ("groups(2,4)+pack(2)", (64, 97), True),
        ("groups(3,2)+pack(3)", (256, 160), True),
        ("groups(3,1)+pack(3)", (211, 97), True),
        ("groups(3,5)+pack(3)", (1005, 97), False),  # a run's codes end within a window
        ("groups(4,64)+pack(4)", (64, 96), False),  # tables of windows as large as the weights
        ("groups(5,2)+pack(5)", (64, 96), False),  # whole codes fill neither 8 nor 12 bits
        ("ternary(tensor)+pack(2)", (35, 33), True),
        ("ternary(row)+pack(2)", (4, 512), True),
        ("dictionary(3,kept)+pack(3)", (211, 97), True),
        ("dictionary(4,kept)+pack(4)", (33, 35), True),
        ("dictionary(1,none)+pack(1)", (64, 97), True),
    ],
)
def test_codes_looked_up_together_are_the_same_weights(
    text: str, shape: tuple[int, int], at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = Codec.parse(text)
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0)) ** 3
    encoded = codec.encode(tensor)
    together, used = codec.decode(encoded, tensor.shape), list[bool]()
    look_up = Pack.look_up

    def one_by_one(self: Pack, packed: Tensor, tables: Tensor, count: int) -> None:
        used.append(look_up(self, packed, tables, count) is not None)

    monkeypatch.setattr(Pack, "look_up", one_by_one)
    assert torch.equal(codec.decode(encoded, tensor.shape), together)
    assert used == [at_once]
