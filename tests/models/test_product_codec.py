"""Product quantization: tables and codes by hand, decoded values, stored bytes and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import vq
from torch import Tensor

from harness.common.errors import Code
from harness.conformance.tiny import tiny_encoder
from harness.models.artifacts import load_artifact, read_config, save_artifact
from harness.models.codecs import Codec, Product
from harness.models.codecs.product import distinct_blocks, fit_blocks, nearest
from harness.profiling.costs.size import artifact_facts
from tests.support.codec_checks import there_and_back, torn
from tests.support.one_line_errors import refused


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.04


def test_by_hand() -> None:
    """Blocks (1, 2), (3, 4), (1, 2) and (5, 6) need all three entries."""
    tensor = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 5.0, 6.0]])
    encoded = Codec.parse("product(2,3)").encode(tensor)
    table, codes = encoded.beside["table"], encoded.values
    assert sorted(table.tolist()) == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    assert codes.shape == (2, 2)
    assert codes.dtype == torch.uint8
    assert codes[0, 0] == codes[1, 0]
    assert len(codes.unique()) == 3
    assert table.dtype == torch.float16
    assert torch.equal(there_and_back("product(2,3)", tensor), tensor)


def test_two_clusters_by_hand() -> None:
    """Blocks near 0 and near 10: the table is the clusters' means, (0.5, 0) and (10, 9.5)."""
    tensor = torch.tensor([[0.0, 0.0, 10.0, 9.0], [1.0, 0.0, 10.0, 10.0]])
    expected = torch.tensor([[0.5, 0.0, 10.0, 9.5], [0.5, 0.0, 10.0, 9.5]])
    assert torch.equal(there_and_back("product(2,2)", tensor), expected)


def test_an_entry_that_nothing_is_nearest_to_moves_to_a_far_block() -> None:
    """Of two kinds of blocks, one rare: a start from four of the frequent kind leaves two entries empty."""
    blocks = torch.zeros(400, 2)
    blocks[7] = torch.tensor([3.0, 4.0])
    table = fit_blocks(blocks, 4)
    codes, distances = nearest(blocks, table)
    assert torch.isfinite(table).all()
    assert float(distances.max()) == 0
    assert table[codes[7]].tolist() == [3.0, 4.0]


def test_nearest_is_scipy_s() -> None:
    blocks, table = draw(5000, 4), draw(37, 4, seed=1)
    codes, distances = nearest(blocks, table)
    expected, lengths = vq(blocks.double().numpy(), table.double().numpy())
    assert np.mean(codes.numpy() == expected) > 0.999
    assert np.allclose(distances.numpy(), lengths**2, atol=1e-7)


def test_the_table_is_a_fixed_point_and_its_error_that_of_normal_weights() -> None:
    """One more round changes next to nothing, and random entries are much worse."""
    blocks = draw(4000, 4)
    table = fit_blocks(blocks, 16)
    codes, distances = nearest(blocks, table)
    means = torch.stack([blocks[codes == k].mean(0) for k in range(16)])
    assert float((means - table).abs().max()) < 0.01
    again = nearest(blocks, means)[1].sum()
    assert float(again) == pytest.approx(float(distances.sum()), rel=0.01)
    chance = nearest(blocks, blocks[:16])[1].sum()
    assert float(distances.sum()) < 0.8 * float(chance)


@st.composite
def weights(draw_: st.DrawFn) -> tuple[Tensor, int, int]:
    """(tensor, block, entries), with or without rows of zeros."""
    block, entries = draw_(st.integers(1, 9)), draw_(st.integers(2, 40))
    rows, columns = draw_(st.integers(1, 12)), draw_(st.integers(1, 7)) * block
    tensor = draw(rows, columns, seed=draw_(st.integers(0, 999)))
    tensor = tensor * draw_(st.sampled_from([1e-3, 1.0, 1e3]))
    if draw_(st.booleans()):
        tensor[draw_(st.integers(0, rows - 1))] = 0
    shape = (-1,) if draw_(st.booleans()) and rows == 1 else (rows, columns)
    return tensor.view(shape), block, entries


@given(weights(), st.sampled_from(["float16", "float32"]))
@settings(max_examples=120, deadline=None)
def test_what_was_quantized_stays_as_it_is(case: tuple[Tensor, int, int], dtype: str) -> None:
    tensor, block, entries = case
    text = f"product({block},{entries},{dtype})"
    once = there_and_back(text, tensor)
    assert once.shape == tensor.shape
    assert len(once.view(-1, block).unique(dim=0)) <= entries
    assert torch.equal(there_and_back(text, once), once)
    width = (entries - 1).bit_length()
    assert torch.equal(there_and_back(f"{text}+pack({width})", tensor), once)
    assert float((once - tensor).square().sum()) <= float(tensor.square().sum()) * (1 + 1e-5)
    if len(tensor.view(-1, block).unique(dim=0)) <= entries and dtype == "float32":
        assert torch.equal(once, tensor)


@given(weights())
@settings(max_examples=80, deadline=None)
def test_bytes_are_the_codes_and_the_table(case: tuple[Tensor, int, int]) -> None:
    tensor, block, entries = case
    codec = Codec.parse(f"product({block},{entries})+pack({(entries - 1).bit_length()})")
    encoded = codec.encode(tensor)
    blocks, width = tensor.numel() // block, (entries - 1).bit_length()
    rows = len(encoded.beside["table"])
    assert encoded.values.nbytes == (blocks * width + 7) // 8
    assert encoded.beside["table"].nbytes == rows * block * 2
    assert rows == min(entries, len((tensor.view(-1, block) + 0.0).unique(dim=0)))
    assert encoded.beside["count"].nbytes == 8
    assert codec.bits == width / block
    assert codec.kept(encoded, tensor.shape) == tensor.numel()


def test_a_quantized_matrix_is_recognised_beyond_the_probe() -> None:
    """There are more blocks than the probe takes. One further distinct block, the 257th, is not in the probe."""
    table = draw(256, 4).half().float()
    codes = torch.randint(0, 256, (40_000,), generator=torch.Generator().manual_seed(1))
    blocks = table[codes]
    found = distinct_blocks(blocks, 256)
    assert found is not None
    assert torch.equal(found[0][found[1]], blocks)
    assert torch.equal(there_and_back("product(4,256)", blocks.view(100, -1)), blocks.view(100, -1))
    blocks[12_345] += 1
    assert distinct_blocks(blocks, 256) is None


def test_negative_zero_is_zero() -> None:
    tensor = torch.tensor([[0.0, -0.0], [-0.0, 0.0], [1.0, 2.0]])
    assert len(Codec.parse("product(2,2,float32)").encode(tensor).beside["table"]) == 2
    assert torch.equal(there_and_back("product(2,2,float32)", tensor), tensor)


def test_encoding_draws_from_no_global_generator() -> None:
    tensor, codec = draw(80, 64), Codec.parse("product(4,16)")
    before = torch.get_rng_state()
    first = codec.encode(tensor)
    torch.rand(3)
    second = codec.encode(tensor)
    torch.set_rng_state(before)
    third = codec.encode(tensor)
    assert torch.equal(torch.get_rng_state(), before)
    for other in (second, third):
        assert torch.equal(first.values, other.values)
        assert torch.equal(first.beside["table"], other.beside["table"])


def test_weights_that_cannot_be_encoded() -> None:
    codec = Codec.parse("product(4,16)")
    with refused(Code.WRONG_SHAPE, "blocks of 4", "rows of 6"):
        codec.encode(torch.zeros(4, 6))
    with refused(Code.NOT_FINITE):
        codec.encode(torch.tensor([[1.0, float("nan"), 0.0, 0.0]]))
    with refused(Code.OUT_OF_RANGE, "float16"):
        codec.encode(torch.full((2, 4), 1e5))


TORN: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "more entries": ("table", lambda t: torch.cat([t, t])),
    "no entry": ("table", lambda t: t[:0]),
    "fewer entries than codes": ("table", lambda t: t[:-1]),
    "another block": ("table", lambda t: t[:, :3]),
    "another type": ("table", lambda t: t.float()),
    "a code too few": ("values", lambda t: t[:, :-1]),
    "one code for each weight": ("values", lambda t: t.repeat(1, 4)),
}


@pytest.mark.parametrize("case", TORN)
def test_torn_tensors_are_detected(case: str) -> None:
    part, change = TORN[case]
    tensor, codec = draw(8, 64), Codec.parse("product(4,16)")
    with refused(Code.DAMAGED, "artifact"):
        codec.decode(torn(codec.encode(tensor), part, change), tensor.shape)


def test_an_artifact_of_codes(tmp_path: Path) -> None:
    """In the survey's convention a weight counts 1/32 if 4 weights share 4 bits; only the bytes include the table."""
    model, name = tiny_encoder(), "layers.0.ffn.into.weight"
    save_artifact(model, tmp_path / "dense")
    model.storage.codecs[name] = Codec.parse("product(4,16)+pack(4)")
    save_artifact(model, tmp_path / "codes")
    assert read_config(tmp_path / "codes").codecs == {name: "product(4,16,float16)+pack(4)"}
    count = model.get_parameter(name).numel()
    dense, coded = (artifact_facts(tmp_path / folder) for folder in ("dense", "codes"))
    assert dense.survey_params - coded.survey_params == pytest.approx(count * (1 - 1 / 32))
    loaded = load_artifact(tmp_path / "codes").get_parameter(name)
    assert len(loaded.detach().view(-1, 4).unique(dim=0)) == 16
    assert torch.equal(loaded, there_and_back("product(4,16)", model.get_parameter(name).detach()))


def test_the_stage_s_shape() -> None:
    assert Product(4).stored_shape(torch.Size([3, 8])) == torch.Size([3, 2])
    assert Product(4).stored_shape(torch.Size([8])) == torch.Size([2])
