"""FLOPs of attention other than full, and of eliminated word-vectors, against closed forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.models.attention_kinds import (
    AttentionKind,
    LinformerAttention,
    LocalAttention,
    SegmentAttention,
    TopKAttention,
)
from harness.models.batch import Batch
from harness.models.config import EncoderConfig, LayerConfig
from harness.models.encoder.attention import window_scores
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.segment_cache import segment_flops
from harness.models.flops.counting import FlopCount, count_flops

HIDDEN, WIDTH, FFN = 12, 20, 30
SHAPE = LayerConfig(heads=4, head_size=5, ffn_size=FFN)
HEAD = HIDDEN * HIDDEN + HIDDEN * 2


def encoder(*layers: LayerConfig, **other: object) -> Encoder:
    values = {"vocab_size": 20, "hidden_size": HIDDEN, "positions": 40, "layers": layers, **other}
    return Encoder(EncoderConfig.model_validate(values)).initialize(torch.Generator().manual_seed(0))


def count(kind: AttentionKind, batch: int, n: int) -> FlopCount:
    model = encoder(SHAPE.model_copy(update={"attention": kind}))
    return count_flops(model, Batch.synthetic(batch, n, 20))


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 12))
def test_local_attention(batch: int, n: int, window: int) -> None:
    found = count(LocalAttention(window=window), batch, n)
    scores = min(window_scores(n, window), n * n)
    assert found.components["attention"].macs == batch * 2 * scores * WIDTH
    assert found.total.macs == batch * (
        2 * scores * WIDTH + n * (4 * HIDDEN * WIDTH + 2 * HIDDEN * FFN) + HEAD
    )
    assert found.uncounted == ()


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_linformer(batch: int, n: int, projected: int, shared: bool) -> None:
    kind = LinformerAttention(projected=projected, length=40, shared_kv=shared)
    found, places = count(kind, batch, n), kind.places(n)
    mixed = (1 if shared else 2) * places * n * HIDDEN
    maps = n * HIDDEN * WIDTH + 2 * places * HIDDEN * WIDTH
    assert found.components["attention_in"].macs == batch * (mixed + maps)
    assert found.components["attention"].macs == batch * 2 * n * places * WIDTH
    assert found.uncounted == ()


@pytest.mark.parametrize("kind", [TopKAttention(k=3), SegmentAttention()])
def test_what_saves_no_matrix_work(kind: AttentionKind) -> None:
    found = count(kind, 2, 9)
    assert found.components["attention"].macs == 2 * 2 * 9 * 9 * WIDTH
    assert found.uncounted == ()
    plain = count_flops(encoder(SHAPE), Batch.synthetic(2, 9, 20))
    assert found.total.macs == plain.total.macs
    assert found.total.elementwise_flops > plain.total.elementwise_flops


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 30), st.lists(st.integers(1, 30), min_size=3, max_size=3))
def test_eliminated_word_vectors_cost_nothing_more(batch: int, n: int, numbers: list[int]) -> None:
    kept = sorted(numbers, reverse=True)
    model = encoder(*(SHAPE.model_copy(update={"kept": number}) for number in kept))
    found = count_flops(model, Batch.synthetic(batch, n, 20))
    attention = ffn = 0
    for number in kept:
        attention += n * 4 * HIDDEN * WIDTH + 2 * n * n * WIDTH
        n = min(n, number)
        ffn += n * 2 * HIDDEN * FFN
    parts = ("attention_in", "attention", "attention_out")
    assert sum(found.components[part].macs for part in parts) == batch * attention
    assert found.components["ffn"].macs == batch * ffn
    assert found.total.macs == batch * (attention + ffn + HEAD)
    assert found.uncounted == ()


def layer_macs(queries: int, hidden: int, ffn: int) -> int:
    return queries * (4 * hidden * hidden + 2 * hidden * ffn) + 2 * queries * queries * hidden


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 12), st.integers(1, 20), st.integers(1, 2))
def test_a_cache_of_second_segments_leaves_the_first_and_what_is_joint(
    first: int, second: int, batch: int
) -> None:
    lower = LayerConfig(heads=3, head_size=4, ffn_size=FFN, attention=SegmentAttention())
    upper = LayerConfig(heads=3, head_size=4, ffn_size=FFN)
    model = encoder(lower, lower, upper, segment_positions="own")
    plain, cached = segment_flops(model, first, second, batch)
    both = layer_macs(first + second, HIDDEN, FFN)
    assert plain.total.macs == batch * (3 * both + HEAD)
    assert cached.total.macs == batch * (2 * layer_macs(first, HIDDEN, FFN) + both + HEAD)
    assert plain.uncounted == cached.uncounted == ()
    # All work belongs to a component, on this path too.
    assert sum(work.macs for work in cached.components.values()) == cached.total.macs


@pytest.mark.parametrize(("first", "second", "share"), [(64, 64, 0.62), (20, 300, 0.29)])
def test_the_shares_that_the_card_of_deformer_states(first: int, second: int, share: float) -> None:
    """BERT-base with nine separate layers, by the closed form that the test above compares with the count."""
    alone, both = layer_macs(first, 768, 3072), layer_macs(first + second, 768, 3072)
    assert round((9 * alone + 3 * both) / (12 * both), 2) == share
