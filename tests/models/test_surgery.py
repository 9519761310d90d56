"""Cutting encoders: what is kept computes the same as before, what is cut is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.common.errors import Code
from harness.compression.pruning.importance import column_gates, gated, head_gates
from harness.models.artifacts import load_artifact, save_artifact
from harness.models.batch import Batch
from harness.models.codecs import Codec, Int8
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.models.parametrization import attach
from harness.models.surgery import (
    factorize,
    factorize_embedding,
    keep_columns,
    keep_heads,
    keep_hidden,
    keep_layers,
    share_layers,
    truncated_svd,
)
from tests.support.encoder_models import random_weights
from tests.support.one_line_errors import refused

CONFIG = EncoderConfig.bert(3, 24, heads=4, ffn=20, vocab_size=50, positions=16)


def model(config: EncoderConfig = CONFIG, seed: int = 0) -> Encoder:
    return random_weights(config, seed).eval()


def batch(seed: int = 0) -> Batch:
    made = Batch.synthetic(3, 9, 50, seed)
    made.attention_mask[0, 5:] = 0
    return made


def logits(encoder: Encoder) -> Tensor:
    with torch.no_grad():
        return encoder(batch()).logits


def subsets(size: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, size - 1), unique=True, max_size=size)


@given(st.tuples(subsets(4), subsets(4), subsets(4)))
@settings(max_examples=25, deadline=None)
def test_heads_that_go_are_those_whose_gate_is_zero(kept: Sequence[Sequence[int]]) -> None:
    """The output map's bias is the exception: a layer without heads loses it."""
    whole = model()
    with torch.no_grad():
        for index, heads in enumerate(kept):
            if not heads:
                whole.layers[index].attention_out.dense.bias.zero_()
    gates = [torch.zeros(4).index_fill(0, torch.tensor(list(heads), dtype=torch.long), 1.0) for heads in kept]
    with gated(whole, heads=gates):
        expected = logits(whole)
    cut = keep_heads(whole, kept)
    assert torch.allclose(logits(cut), expected, atol=1e-6)
    assert [layer.heads for layer in cut.config.layers] == [len(heads) for heads in kept]
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in whole.parameters()) or all(
        len(heads) == 4 for heads in kept
    )


@given(st.tuples(subsets(20), subsets(20), subsets(20)))
@settings(max_examples=25, deadline=None)
def test_columns_that_go_are_those_whose_gate_is_zero(kept: Sequence[Sequence[int]]) -> None:
    whole = model()
    with torch.no_grad():
        for index, columns in enumerate(kept):
            if not columns:
                whole.layers[index].ffn.out.bias.zero_()
    gates = [torch.zeros(20).index_fill(0, torch.tensor(list(c), dtype=torch.long), 1.0) for c in kept]
    with gated(whole, columns=gates):
        expected = logits(whole)
    assert torch.allclose(logits(keep_columns(whole, kept)), expected, atol=1e-6)


def test_gates_of_one_change_nothing_and_record_gradients() -> None:
    whole = model()
    heads, columns = head_gates(whole), column_gates(whole)
    expected = logits(whole)
    with gated(whole, heads, columns):
        found = whole(batch()).logits
    assert torch.equal(found, expected)
    gradients = torch.autograd.grad(found.square().sum(), [*heads, *columns])
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert torch.equal(logits(whole), expected)


@given(subsets(3).filter(bool))
@settings(max_examples=10, deadline=None)
def test_layers_that_stay(kept: list[int]) -> None:
    whole = model()
    cut = keep_layers(whole, kept)
    for place, source in enumerate(kept):
        ours, theirs = cut.layers[place].state_dict(), whole.layers[source].state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(cut.embedding.word.weight, whole.embedding.word.weight)


def test_hidden_units_that_go_are_those_that_are_zero() -> None:
    """The norms' statistics change with the units, so only shapes and single maps can be compared."""
    whole, kept = model(), [0, 3, 4, 7, 11, 23]
    cut = keep_hidden(whole, kept)
    assert cut.config.hidden_size == 6
    assert cut.config.layers == whole.config.layers
    assert torch.equal(cut.head.pooler.weight, whole.head.pooler.weight[kept][:, kept])
    assert torch.equal(cut.layers[1].ffn.into.weight, whole.layers[1].ffn.into.weight[:, kept])
    assert torch.equal(
        cut.layers[2].attention_out.dense.weight, whole.layers[2].attention_out.dense.weight[kept]
    )
    assert torch.equal(cut.embedding.position.weight, whole.embedding.position.weight[:, kept])
    assert torch.equal(cut.head.classifier.weight, whole.head.classifier.weight[:, kept])
    assert logits(cut).shape == (3, 2)
    assert torch.equal(logits(keep_hidden(whole, range(24))), logits(whole))


def test_factorized_matrices_are_the_nearest_of_their_rank() -> None:
    whole = model()
    cut = factorize(whole, {"ffn_in": 5, "query": 24})
    weight = whole.layers[1].ffn.into.weight
    product = cut.layers[1].ffn.into.second.weight @ cut.layers[1].ffn.into.first.weight
    beyond = torch.linalg.svdvals(weight)[5:].square().sum().sqrt()
    assert torch.allclose((weight - product).norm(), beyond, rtol=1e-5)
    full = factorize(whole, dict.fromkeys(("ffn_in", "ffn_out"), 20))
    assert torch.allclose(logits(full), logits(whole), atol=1e-5)
    assert [layer.ranks for layer in factorize(whole, {"key": 3}, [1]).config.layers] == [{}, {"key": 3}, {}]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_truncated_svd_balances_its_factors(rows: int, columns: int, seed: int) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    for rank in range(1, min(rows, columns) + 1):
        first, second = truncated_svd(weight, rank)
        assert first.shape == (rank, columns)
        assert second.shape == (rows, rank)
        assert torch.allclose(first @ first.T, second.T @ second, atol=1e-4)
    assert torch.allclose(second @ first, weight, atol=1e-5)


def test_factorized_embeddings() -> None:
    whole = model()
    cut = factorize_embedding(whole, 23)
    table = cut.embedding.project(cut.embedding.word.weight)
    beyond = torch.linalg.svdvals(whole.embedding.word.weight)[23]
    assert torch.allclose((table - whole.embedding.word.weight).norm(), beyond, rtol=1e-3)


def test_shared_layers() -> None:
    whole = model()
    cut = share_layers(whole, [None, 0, 0])
    assert cut.layers[2] is cut.layers[0]
    same = share_layers(whole, [None, None, None])
    assert torch.equal(logits(same), logits(whole))
    assert torch.equal(cut.layers[0].ffn.out.weight, whole.layers[0].ffn.out.weight)


def test_storage_follows_the_weights() -> None:
    whole = model()
    whole.storage.codecs = {
        "layers.0.ffn.into.weight": Codec((Int8(),)),
        "layers.2.ffn.into.weight": Codec((Int8("tensor"),)),
        "embedding.word.weight": Codec((Int8(),)),
    }
    cut = keep_layers(whole, [2, 1])
    assert {name: str(codec) for name, codec in cut.storage.codecs.items()} == {
        "layers.0.ffn.into.weight": "int8(tensor)",
        "embedding.word.weight": "int8(channel)",
    }
    assert len(whole.storage.codecs) == 3


def test_a_layer_without_heads_or_columns_is_stored_and_loads(tmp_path: Any) -> None:
    cut = keep_columns(keep_heads(model(), [[], [1], [0, 2]]), [[3], [], list(range(20))])
    save_artifact(cut, tmp_path / "artifact")
    loaded = load_artifact(tmp_path / "artifact")
    # Not to the bit: on some processors, the order of a sum depends on where a tensor begins in memory.
    torch.testing.assert_close(logits(loaded), logits(cut), rtol=0, atol=1e-6)
    maps = loaded(batch(), attentions=True).attentions
    assert maps is not None
    assert [tuple(a.probabilities.shape) for a in maps] == [(3, 0, 9, 9), (3, 1, 9, 9), (3, 2, 9, 9)]


def test_the_given_encoder_stays_as_it_is() -> None:
    whole, expected = model(), logits(model())
    keep_hidden(whole, [1, 2, 3])
    keep_heads(whole, [[0]] * 3)
    keep_columns(whole, [[0]] * 3)
    factorize(whole, {"value": 2})
    share_layers(whole, [None, 0, 0])
    assert torch.equal(logits(whole), expected)


OUT, SHAPE = Code.OUT_OF_RANGE, Code.WRONG_SHAPE
REFUSED: dict[str, tuple[Code, list[str], Callable[[Encoder], object]]] = {
    "no such head": (OUT, ["heads", "layer 0", "0 … 3", "[4]"], lambda m: keep_heads(m, [[4], [0], [0]])),
    "a head twice": (OUT, ["heads", "layer 1", "[1, 1]"], lambda m: keep_heads(m, [[0], [1, 1], [0]])),
    "two of three layers": (Code.INCOMPLETE, ["2 layers", "3"], lambda m: keep_heads(m, [[0], [0]])),
    "shared heads": (SHAPE, ["heads"], lambda m: keep_heads(share_layers(m, [None, 0, 0]), [[0]] * 3)),
    "no such column": (OUT, ["FFN columns", "layer 2", "0 … 19"], lambda m: keep_columns(m, [[], [], [20]])),
    "factorized columns": (
        SHAPE,
        ["FFN columns", "layer 0"],
        lambda m: keep_columns(factorize(m, {"ffn_out": 3}), [[0]] * 3),
    ),
    "no such hidden unit": (OUT, ["hidden units", "0 … 23", "[24]"], lambda m: keep_hidden(m, [24])),
    "no hidden units": (OUT, ["hidden unit"], lambda m: keep_hidden(m, [])),
    "a rank too large": (OUT, ["25", "query", "layer 0", "24"], lambda m: factorize(m, {"query": 25})),
    "factorized twice": (
        SHAPE,
        ["query", "layer 0"],
        lambda m: factorize(factorize(m, {"query": 3}), {"query": 2}),
    ),
    "embeddings of full rank": (OUT, ["rank 24", "hidden size 24"], lambda m: factorize_embedding(m, 24)),
    "embeddings factorized twice": (
        SHAPE,
        ["factorized"],
        lambda m: factorize_embedding(factorize_embedding(m, 4), 2),
    ),
    "two sources": (Code.INCOMPLETE, ["2", "3 layers"], lambda m: share_layers(m, [None, 0])),
    "a layer shares with itself": (SHAPE, ["layer 0"], lambda m: share_layers(m, [0, 0, 0])),
    "parametrized": (
        Code.WRONG_ORDER,
        ["layers.0.ffn.out.weight"],
        lambda m: (attach(m, "layers.0.ffn.out.weight", nn.Identity()), keep_layers(m, [0])),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_cut(case: str) -> None:
    code, names, cut = REFUSED[case]
    with refused(code, *names):
        cut(model())
