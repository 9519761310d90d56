"""Int8Linear against integer arithmetic in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.common.errors import Code
from harness.models.codecs import Codec, Int8
from harness.models.int8_linear import (
    EXACT_WIDTH,
    Int8Linear,
    float_int_mm,
    padded_int_mm,
    replace_linear,
    require_dense,
)
from tests.support.encoder_models import TINY, random_weights
from tests.support.one_line_errors import refused


def quantized(weight: Tensor, bias: Tensor | None, per: str) -> Int8Linear:
    encoded = Codec((Int8(per),)).encode(weight)
    return Int8Linear(encoded.values, encoded.beside["scale"], bias)


def oracle(layer: Int8Linear, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Compute the expected result in float64 from exact integer sums, and the magnitude of its terms."""
    tokens = x.reshape(-1, layer.in_features).numpy()
    scale = np.abs(tokens).max(1, keepdims=True) / np.float32(127)
    steps = np.divide(tokens, scale, out=np.zeros_like(tokens), where=scale > 0)
    sums = np.rint(steps).astype(np.int64) @ layer.weight.numpy().astype(np.int64).T
    product = sums * scale.astype(np.float64) * layer.scale.numpy().astype(np.float64)
    bias = np.zeros(layer.out_features) if layer.bias is None else layer.bias.numpy().astype(np.float64)
    shape = (*x.shape[:-1], layer.out_features)
    return (product + bias).reshape(shape), (np.abs(product) + np.abs(bias)).reshape(shape)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_padding_for_cublas_changes_no_sum(rows: int, width: int, outputs: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-127, 128, (rows, width), generator=generator, dtype=torch.int8)
    weight = torch.randint(-127, 128, (outputs, width), generator=generator, dtype=torch.int8)
    sums = padded_int_mm(x, weight)
    assert sums.dtype == torch.int32
    assert torch.equal(sums, (x.long() @ weight.long().T).int())


@given(st.integers(1, 9), st.integers(1, 3 * EXACT_WIDTH + 1), st.integers(1, 9), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_sums_by_float_products_are_exact(rows: int, width: int, outputs: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-128, 128, (rows, width), generator=generator, dtype=torch.int8)
    weight = torch.randint(-128, 128, (outputs, width), generator=generator, dtype=torch.int8)
    sums = float_int_mm(x, weight)
    assert sums.dtype == torch.int32
    assert torch.equal(sums, (x.long() @ weight.long().T).int())


def test_the_largest_sums_by_float_products() -> None:
    """Odd sums beyond 2²⁴ too, which float32 cannot distinguish from their neighbours."""
    x = torch.full((1, 3072), -128, dtype=torch.int8)
    x[0, -1] = 1
    weight = torch.full((2, 3072), -128, dtype=torch.int8)
    weight[1, -1] = 1
    assert float_int_mm(x, weight).tolist() == [[3071 * 2**14 - 128, 3071 * 2**14 + 1]]


def test_a_map_s_numbers_are_the_same_on_any_processor() -> None:
    generator = torch.Generator().manual_seed(3)
    layer = quantized(
        torch.randn(40, 1536, generator=generator), torch.randn(40, generator=generator), "channel"
    )
    x = torch.randn(2, 5, 1536, generator=generator)
    found = []
    for layer.in_floats in (False, True):
        found.append(layer(x))
    assert torch.equal(*found)


@given(
    leading=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 40),
    per=st.sampled_from(["channel", "tensor"]),
    biased=st.booleans(),
    magnitude=st.sampled_from([1e-6, 1.0, 1e4]),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_integer_arithmetic(
    leading: list[int], inputs: int, outputs: int, per: str, biased: bool, magnitude: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator)
    bias = torch.randn(outputs, generator=generator) if biased else None
    layer = quantized(weight, bias, per)
    x = magnitude * torch.randn(*leading, inputs, generator=generator)
    expected, size = oracle(layer, x)
    result = layer(x)
    assert result.dtype == torch.float32
    assert result.shape == expected.shape
    # Four operations round once each: two products, the conversion of the sum, and the addition.
    assert (np.abs(result.numpy() - expected) <= 4 * np.finfo(np.float32).eps * size).all()


def test_largest_sums_do_not_overflow() -> None:
    """The sum of 3,072 products 127 · 127 exceeds 2²⁴, where float32 loses integers, and is far below 2³¹."""
    layer = quantized(torch.ones(3, 3072), None, "channel")
    assert torch.allclose(layer(torch.ones(2, 3072)), torch.full((2, 3), 3072.0), rtol=1e-6)


def test_near_the_dense_map() -> None:
    torch.manual_seed(0)
    dense = nn.Linear(256, 64)
    x = torch.randn(10, 256)
    for per in ("channel", "tensor"):
        error = (quantized(dense.weight.data, dense.bias.data, per)(x) - dense(x)).norm() / dense(x).norm()
        assert 0 < error < 0.02


def test_rows_do_not_depend_on_their_neighbours() -> None:
    torch.manual_seed(1)
    layer = quantized(torch.randn(12, 24), torch.randn(12), "channel")
    x = torch.randn(3, 7, 24)
    together = layer(x)
    for row in range(3):
        for token in range(7):
            assert torch.equal(layer(x[row, token]), together[row, token])
    loud = torch.cat([x, 1000 * torch.randn(1, 7, 24)])
    assert torch.equal(layer(loud)[:3], together)
    padded = torch.cat([x, 50 * torch.randn(3, 4, 24)], dim=1)
    assert torch.equal(layer(padded)[:, :7], together)


@pytest.mark.parametrize("flush", [False, True])
def test_zero_and_tiny_rows(flush: bool) -> None:
    """A row of zeros gives the bias, even if the processor flushes subnormal numbers."""
    layer = quantized(torch.randn(5, 8), torch.arange(5.0), "channel")
    x = torch.randn(3, 8)
    x[1], x[2] = 0, 1e-42
    torch.set_flush_denormal(flush)
    try:
        result = layer(x)
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(result[1], torch.arange(5.0))
    assert torch.isfinite(result).all()


def test_what_is_no_number_stays_visible() -> None:
    layer = quantized(torch.randn(5, 8), None, "channel")
    x = torch.randn(3, 8)
    x[1, 4] = float("nan")
    result = layer(x)
    assert result[1].isnan().all()
    assert result[[0, 2]].isfinite().all()


def test_zero_rows_of_the_weight() -> None:
    weight = torch.randn(4, 8)
    weight[2] = 0
    result = quantized(weight, None, "channel")(torch.randn(3, 8))
    assert not result[:, 2].any()
    assert result[:, [0, 1, 3]].all()


def test_weights_are_int8_and_no_parameters() -> None:
    layer = quantized(torch.randn(4, 8), torch.randn(4), "channel")
    assert layer.weight.dtype == torch.int8
    assert layer.weight.nbytes == 32
    assert list(layer.parameters()) == []


def test_replace_linear() -> None:
    model = random_weights(TINY, 0)
    require_dense(model)
    kernel = quantized(model.layers[1].ffn.into.weight.data, model.layers[1].ffn.into.bias.data, "channel")
    replace_linear(model, "layers.1.ffn.into", kernel)
    assert model.layers[1].ffn.into is kernel
    with refused(Code.WRONG_KIND, "'layers.1.ffn.into'"):
        require_dense(model)
    for path in ("layers.9.ffn.into", "layers.1.ffn.nothing", "embedding.word", "layers.1.ffn.into"):
        with refused(Code.DAMAGED, f"'{path}'"):
            replace_linear(model, path, kernel)
