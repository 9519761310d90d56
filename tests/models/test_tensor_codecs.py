"""Tensor codecs: decoded values, stored bytes, and damaged tensors that are refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from harness.common.errors import Code
from harness.models.codecs import Bitmask, Codec
from tests.support.codec_checks import CODECS, nbytes, there_and_back, torn
from tests.support.one_line_errors import refused

SHAPES = st.one_of(st.tuples(st.integers(1, 40)), st.tuples(st.integers(1, 9), st.integers(1, 33)))
LIMIT = float(np.float32(60000.0))
"""Below float16's largest value."""


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Float32 tensors of one or two dimensions, odd sizes, many or few zeros, whole rows of zeros."""
    shape = draw(SHAPES)
    ordinary = st.floats(-LIMIT, LIMIT, width=32).filter(lambda x: abs(x) > 1e-30)
    values = draw(arrays.arrays(np.float32, shape, elements=st.one_of(st.just(0.0), ordinary)))
    tensor = torch.from_numpy(values.copy())
    tensor[draw(st.lists(st.integers(0, shape[0] - 1), max_size=3))] = 0
    if draw(st.booleans()):
        density = draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
        normal = torch.randn(shape, generator=generator)
        tensor = normal * (torch.rand(shape, generator=generator) < density)
    return tensor


@given(tensors())
@settings(max_examples=60, deadline=None)
def test_dense_and_bitmask_are_exact(tensor: Tensor) -> None:
    for codec in ("dense", "cast(float32)", "bitmask", "cast(float32)+bitmask"):
        assert torch.equal(there_and_back(codec, tensor), tensor)


@given(tensors(), st.sampled_from([("float16", 10, -14), ("bfloat16", 7, -126)]))
@settings(max_examples=60, deadline=None)
def test_casts_are_within_half_a_unit_in_the_last_place(tensor: Tensor, kind: tuple[str, int, int]) -> None:
    name, mantissa, smallest = kind
    decoded = there_and_back(f"cast({name})", tensor).double()
    exponent = torch.frexp(tensor.double()).exponent.clamp_min(smallest + 1) - 1
    unit = torch.ldexp(torch.ones_like(decoded), exponent - mantissa)
    assert ((decoded - tensor.double()).abs() <= unit / 2).all()
    assert torch.equal(there_and_back(f"cast({name})+bitmask", tensor).double(), decoded)


@given(tensors(), st.sampled_from(["channel", "tensor"]))
@settings(max_examples=80, deadline=None)
def test_int8_is_within_half_a_step(tensor: Tensor, per: str) -> None:
    encoded = Codec.parse(f"int8({per})").encode(tensor)
    scale = encoded.beside["scale"].double()
    rows = per == "channel" and tensor.dim() == 2
    assert encoded.values.dtype == torch.int8
    assert scale.shape == ((tensor.shape[0],) if rows else ())
    assert int(encoded.values.abs().max()) <= 127
    largest = tensor.double().abs().amax(1) if rows else tensor.double().abs().amax()
    assert torch.allclose(scale, largest / 127, rtol=1e-6, atol=0)
    decoded = there_and_back(f"int8({per})", tensor)
    step = scale[:, None] if rows else scale
    # Slightly above a half: the division and the product round in float32.
    assert ((decoded.double() - tensor.double()).abs() <= step * (0.5 + 1e-4)).all()
    assert not decoded[tensor == 0].any(), "a zero moved"
    assert torch.equal(decoded.sign() * tensor.sign(), decoded.sign().abs()), "a sign changed"
    # Values on the grid stay there.
    assert torch.allclose(there_and_back(f"int8({per})", decoded), decoded, rtol=1e-6)
    assert torch.equal(there_and_back(f"int8({per})+bitmask", tensor), decoded)


@given(tensors(), st.sampled_from(CODECS))
@settings(max_examples=100, deadline=None)
def test_bytes_are_the_masks_the_kept_values_and_the_scales(tensor: Tensor, text: str) -> None:
    codec = Codec.parse(text)
    encoded = codec.encode(tensor)
    width = {"int8": 1, "cast(float16)": 2, "cast(bfloat16)": 2}.get(
        text.partition("+")[0].partition("(channel")[0]
    )
    width = 1 if text.startswith("int8") else width or 4
    assert codec.bits == 8 * width
    kept = (
        int(codec.decode(encoded, tensor.shape).count_nonzero()) if codec.find("bitmask") else tensor.numel()
    )
    mask = math.ceil(tensor.numel() / 8) if codec.find("bitmask") else 0
    scales = (
        0 if codec.find("int8") is None else tensor.shape[0] if "channel" in text and tensor.dim() == 2 else 1
    )
    assert nbytes(encoded) == kept * width + mask + 4 * scales
    if codec.find("bitmask"):
        assert encoded.values.shape == (kept,)
        assert encoded.values.count_nonzero() == kept
        assert encoded.beside["mask"].dtype == torch.uint8


@pytest.mark.parametrize("size", [1, 7, 8, 9, 64, 65])
def test_masks_bit_for_bit(size: int) -> None:
    """A weight's bit is the (7 − i mod 8)-th of byte i // 8; the last byte is padded with zeros."""
    tensor = torch.zeros(size)
    tensor[::3] = torch.arange(1, len(tensor[::3]) + 1).float()
    encoded = Codec((Bitmask(),)).encode(tensor)
    expected = bytearray(math.ceil(size / 8))
    for index in range(0, size, 3):
        expected[index // 8] |= 1 << (7 - index % 8)
    assert bytes(encoded.beside["mask"].tolist()) == bytes(expected)
    assert encoded.values.tolist() == [float(i + 1) for i in range(len(tensor[::3]))]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("shape", [(3, 5), (17,), (1, 1)])
def test_all_zeros(codec: str, shape: tuple[int, ...]) -> None:
    zeros = torch.zeros(shape)
    assert torch.equal(there_and_back(codec, zeros), zeros)


def test_unpack_leaves_int8_as_it_is() -> None:
    tensor = torch.tensor([[0.0, 1.0, -2.0], [0.0, 0.0, 0.0]])
    codec = Codec.parse("int8(channel)+bitmask")
    values = codec.unpack(codec.encode(tensor), tensor.shape)
    assert values.dtype == torch.int8
    # 1 / (2 / 127) = 63.5, which rounds to the even 64.
    assert values.tolist() == [[0, 64, -127], [0, 0, 0]]


def test_overflow_says_so() -> None:
    for values in ([1.0, 70000.0], [float("inf"), 70000.0]):
        with refused(Code.OUT_OF_RANGE, "float16", "bfloat16"):
            Codec.parse("cast(float16)").encode(torch.tensor(values))
    assert there_and_back("cast(bfloat16)", torch.tensor([70000.0])).isfinite().all()
    # An infinite weight does not overflow.
    assert there_and_back("cast(float16)", torch.tensor([math.inf])).item() == math.inf


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan])
def test_int8_refuses_weights_that_are_not_finite(odd: float) -> None:
    with refused(Code.NOT_FINITE):
        Codec.parse("int8").encode(torch.tensor([[1.0, odd]]))


WEIGHT = torch.tensor([[0.0, 1.5, -2.0, 0.0, 0.25], [1.0, 0.0, 0.0, 0.0, -1.0]])
TORN: dict[str, tuple[str, str, Callable[[Tensor], Tensor] | None]] = {
    "mask lost": ("bitmask", "mask", None),
    "mask cut": ("bitmask", "mask", lambda t: t[:1]),
    "mask longer": ("bitmask", "mask", lambda t: torch.cat([t, torch.zeros_like(t[:1])])),
    "mask with a bit more": ("bitmask", "mask", lambda t: t | 0x80),
    "mask with a bit after the end": ("bitmask", "mask", lambda t: t | 1),
    "mask of another type": ("bitmask", "mask", lambda t: t.float()),
    "values lost": ("bitmask", "values", lambda t: t[:-1]),
    "values more": ("bitmask", "values", lambda t: t.repeat(2)),
    "scale lost": ("int8", "scale", None),
    "scale of one row": ("int8", "scale", lambda t: t[:1]),
    "scale for all": ("int8", "scale", lambda t: t[0]),
    "scales where one belongs": ("int8(tensor)", "scale", lambda t: t.repeat(2)),
    "scale of another type": ("int8", "scale", lambda t: t.double()),
    "something more": ("dense", "mask", lambda t: t),
    "float where int8 belongs": ("int8", "values", lambda t: t.float()),
    "int8 where float belongs": ("dense", "values", lambda t: t.to(torch.int8)),
    "half where float belongs": ("dense", "values", lambda t: t.half()),
    "another shape": ("dense", "values", lambda t: t.T),
    "another shape of int8": ("int8", "values", lambda t: t[:, :4]),
}


@pytest.mark.parametrize("case", TORN)
def test_torn_tensors_are_detected(case: str) -> None:
    text, part, change = TORN[case]
    codec = Codec.parse(text)
    encoded = codec.encode(WEIGHT)
    codec.decode(encoded, WEIGHT.shape)
    for use in (codec.decode, codec.unpack):
        with refused(Code.DAMAGED, "artifact"):
            use(torn(encoded, part, change), WEIGHT.shape)


def test_encoding_does_not_touch_the_weight() -> None:
    for codec in CODECS:
        weight = WEIGHT.clone().requires_grad_()
        Codec.parse(codec).encode(weight)
        assert torch.equal(weight, WEIGHT)
