"""Soft windows: against the dense formula and values by hand; cutting heads; FLOPs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from harness.common.errors import Code
from harness.models.artifacts import load_artifact, save_artifact
from harness.models.attention_kinds import SpanAttention
from harness.models.batch import Batch
from harness.models.config import EncoderConfig, LayerConfig
from harness.models.encoder.attention import SoftWindows, block_scores, window_logarithms
from harness.models.encoder.encoder import Encoder
from harness.models.flops.counting import count_flops
from harness.models.surgery import keep_heads, set_attention
from tests.support.encoder_models import TINY, logits, random_batch, random_weights
from tests.support.one_line_errors import refused

BATCH = random_batch([9, 4, 17], TINY.vocab_size, pairs=True)
KIND = SpanAttention(ramp=2, spans=(0.0, 1.5))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def spanned(kind: SpanAttention = KIND) -> Encoder:
    return set_attention(random_weights(TINY, 0).eval(), kind)


def weights(kind: SpanAttention, tokens: int) -> Tensor:
    """Compute m (h, n, n) element by element."""
    rows = [
        [
            [max(0.0, min(1.0, (kind.ramp + z - abs(i - j)) / kind.ramp)) for j in range(tokens)]
            for i in range(tokens)
        ]
        for z in kind.spans
    ]
    return torch.tensor(rows)


def test_the_weights_by_hand() -> None:
    distance = torch.arange(5)[None]
    found = window_logarithms(torch.tensor([0.0, 1.0, 1.5]), 2, distance).exp()[:, 0]
    assert found.tolist() == [
        [1.0, 0.5, 0.0, 0.0, 0.0],
        [1.0, 1.0, 0.5, 0.0, 0.0],
        [1.0, 1.0, 0.75, pytest.approx(0.25), 0.0],
    ]
    assert SpanAttention(ramp=2, spans=(0.0, 1.0, 1.5)).windows == (1, 2, 3)
    assert SpanAttention(ramp=1, spans=(0.0,)).windows == (0,), "itself alone"


def test_equal_scores_are_shared_by_the_weights() -> None:
    """Tokens 0 … 3 and a head with span 0 and ramp 2: a neighbour has the weight 1 / 2."""
    attention = SoftWindows(0.0, SpanAttention(ramp=2, spans=(0.0,))).eval()
    zeros, mask = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 1, 4, dtype=torch.bool)
    for maps in (False, True):
        context, _ = attention(zeros, zeros, torch.eye(4)[None, None], mask, maps)
        assert torch.allclose(context[0, 0], torch.tensor([1.0, 0.5, 0, 0]) / 1.5)
        assert torch.allclose(context[0, 1], torch.tensor([0.5, 1.0, 0.5, 0]) / 2)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    ramp=st.integers(1, 5),
    spans=st.lists(st.floats(0, 40, width=32), min_size=3, max_size=3),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_blocks_compute_what_the_formula_does(
    lengths: list[int], ramp: int, spans: list[float], seed: int
) -> None:
    """The probabilities times m, divided by their sum (Sukhbaatar et al. 2019, section 2.2)."""
    kind = SpanAttention(ramp=ramp, spans=tuple(spans))
    attention, n = SoftWindows(0.0, kind).eval(), max(lengths)
    query, key, value = (draw(len(lengths), 3, n, 5, seed=seed + part) for part in range(3))
    present = torch.arange(n) < torch.tensor(lengths)[:, None]
    scores = query @ key.transpose(-1, -2) / math.sqrt(5)
    shares = scores.masked_fill(~present[:, None, None], -math.inf).softmax(-1) * weights(kind, n)
    expected = (shares / shares.sum(-1, keepdim=True).clamp_min(1e-30)) @ value
    real = present[:, None, :, None]
    mask = present[:, None, None]
    for maps in (False, True):
        context, _ = attention(query, key, value, mask, maps)
        found = context.unflatten(-1, (3, 5)).transpose(1, 2)
        assert torch.isfinite(found).all(), "padding has something to attend to as well"
        assert ((found - expected) * real).abs().max() <= 1e-4


def test_heads_go_in_blocks_where_that_is_less_work() -> None:
    # Five blocks of 4 queries with 12 keys; without neighbours a query still has three keys.
    assert block_scores(18, 4) == 5 * 4 * 12 == 240 < 18**2
    assert block_scores(10, 0) == 10 * 3
    attention = SoftWindows(0.0, SpanAttention(ramp=2, spans=(0.0, 30.0, 2.5)))
    assert attention.split(18) == ([0, 2], [1])
    assert attention.split(3) == ([], [0, 1, 2])


def test_gradients_reach_the_spans_and_are_numbers() -> None:
    attention = SoftWindows(0.0, SpanAttention(ramp=2, spans=(0.0, 1.5)))
    attention.learn()
    query, key, value = (draw(2, 2, 9, 5, seed=part).requires_grad_() for part in range(3))
    mask = (torch.arange(9) < torch.tensor([9, 5])[:, None])[:, None, None]

    def loss() -> Tensor:
        return attention(query, key, value, mask)[0].square().sum()

    loss().backward()
    for each in (attention.spans, query, key, value):
        assert torch.isfinite(each.grad).all()
    before = attention.spans.detach().clone()
    for head in range(2):
        ends = []
        for step in (1e-2, -1e-2):
            with torch.no_grad():
                attention.spans.copy_(before)
                # A span below 0 would lower a token's weight for itself, so both sides of the difference stay above.
                attention.spans[head] += step + 0.2
            ends.append(float(loss().detach()))
        with torch.no_grad():
            attention.spans.copy_(before)
            attention.spans[head] += 0.2
        attention.spans.grad = None
        loss().backward()
        slope = (ends[0] - ends[1]) / 2e-2
        assert float(attention.spans.grad[head]) == pytest.approx(slope, rel=2e-2, abs=1e-2)


def test_what_was_learned_is_kept_to_the_bit() -> None:
    model = spanned()
    attention = model.layers[0].attention
    attention.learn()
    assert "layers.0.attention.spans" in dict(model.named_parameters())
    with torch.no_grad():
        attention.spans.copy_(torch.tensor([0.1, 7.3]))
        before = model(BATCH, attentions=True).logits
    attention.settle()
    assert attention.spans is None
    assert not [name for name, _ in model.named_parameters() if name.endswith("spans")]
    assert attention.kind.spans == tuple(torch.tensor([0.1, 7.3]).tolist())
    with torch.no_grad():
        assert torch.equal(model(BATCH, attentions=True).logits, before)
        assert (model(BATCH).logits - before).abs().max() <= 1e-5


def test_windows_that_hold_everything_are_full_attention() -> None:
    full = random_weights(TINY, 0).eval()
    wide = set_attention(full, SpanAttention(ramp=3, spans=(17.0, 16.0)))
    assert (logits(wide, BATCH) - logits(full, BATCH)).abs().max() <= 1e-5


def test_an_artifact_holds_the_spans(tmp_path: Path) -> None:
    model = spanned(SpanAttention(ramp=2, spans=(float(torch.tensor(0.1)), 1.5)))
    save_artifact(model, tmp_path / "artifact")
    again = load_artifact(tmp_path / "artifact")
    assert again.config == model.config
    assert torch.equal(logits(again, BATCH), logits(model, BATCH))
    text = json.loads(model.config.model_dump_json())["layers"][0]["attention"]
    assert text == {"kind": "span", "ramp": 2, "spans": [float(torch.tensor(0.1)), 1.5]}


def test_spans_go_with_their_heads() -> None:
    model = spanned()
    swapped = keep_heads(model, [[1, 0], [1]])
    assert [layer.attention.spans for layer in swapped.config.layers] == [(1.5, 0.0), (1.5,)]
    both = keep_heads(model, [[1, 0], [0, 1]])
    assert (logits(both, BATCH) - logits(model, BATCH)).abs().max() <= 1e-5
    bare = keep_heads(model, [[1], []])
    assert [layer.attention for layer in bare.config.layers] == [KIND.of_heads([1]), None]
    assert torch.isfinite(logits(bare, BATCH)).all()


def test_each_head_has_a_span() -> None:
    with pytest.raises(ValidationError, match=r"2 spans .* 3 heads"):
        LayerConfig(heads=3, attention=KIND)
    with pytest.raises(ValidationError, match="spans"):
        SpanAttention(spans=())
    for span in (-0.5, math.inf, math.nan):
        with pytest.raises(ValidationError, match="spans"):
            SpanAttention(spans=(span,))
    with refused(Code.WRONG_SHAPE, "1 spans", "2 heads"):
        set_attention(random_weights(TINY, 0), SpanAttention(spans=(1.0,)))


def test_a_shape_of_fewer_heads_keeps_the_first_spans() -> None:
    """Methods that predict a shape know how many heads are cut, not which."""
    config = spanned().config
    fewer = config.with_layers(tuple(layer.model_copy(update={"heads": 1}) for layer in config.layers))
    assert {layer.attention for layer in fewer.layers} == {KIND.of_heads([0])}
    assert EncoderConfig.model_validate_json(fewer.model_dump_json()) == fewer
    none = config.with_layers(tuple(layer.model_copy(update={"heads": 0}) for layer in config.layers))
    assert {layer.attention for layer in none.layers} == {None}


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 32), st.lists(st.floats(0, 20), min_size=2, max_size=2))
def test_flops(batch: int, n: int, spans: list[float]) -> None:
    kind = SpanAttention(ramp=2, spans=tuple(spans))
    model = spanned(kind)
    found = count_flops(model, Batch.synthetic(batch, n, TINY.vocab_size))
    near = [window for window in kind.windows if block_scores(n, window) < n * n]
    scores = len(near) * block_scores(n, max(near, default=0)) + (2 - len(near)) * n * n
    assert found.components["attention"].macs == 2 * batch * 2 * scores * 12
    assert found.uncounted == ()
