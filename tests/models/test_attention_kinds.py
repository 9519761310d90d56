"""Kinds of attention other than full: against dense masks, closed forms and full attention."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from harness.common.errors import Code
from harness.models.artifacts import load_artifact, save_artifact
from harness.models.attention_kinds import (
    AttentionKind,
    LinformerAttention,
    LocalAttention,
    SegmentAttention,
    SpanAttention,
    TopKAttention,
)
from harness.models.batch import Batch
from harness.models.checkpoints import save_checkpoint
from harness.models.config import EncoderConfig
from harness.models.encoder.attention import (
    ExplicitSparseAttention,
    Places,
    Tokens,
    WindowAttention,
    make_attention,
    window_scores,
)
from harness.models.encoder.encoder import Encoder
from harness.models.parameter_counts import encoder_parameters
from harness.models.surgery import (
    factorize,
    keep_columns,
    keep_heads,
    keep_hidden,
    keep_layers,
    keep_positions,
    own_segment_positions,
    set_attention,
    share_layers,
)
from tests.support.encoder_models import TINY, equal_weights, logits, random_batch, random_weights
from tests.support.one_line_errors import refused

KINDS: dict[str, AttentionKind] = {
    "local": LocalAttention(window=2),
    "topk": TopKAttention(k=3),
    "linformer": LinformerAttention(projected=9, length=32),
    "linformer-shared": LinformerAttention(projected=9, length=32, shared_kv=True),
    "segments": SegmentAttention(),
    "span": SpanAttention(ramp=2, spans=(0.0, 1.5)),
}
BATCH = random_batch([9, 4, 17], TINY.vocab_size, pairs=True)


def with_attention(kind: AttentionKind, seed: int = 0, config: EncoderConfig = TINY) -> Encoder:
    layers = tuple(layer.model_copy(update={"attention": kind}) for layer in config.layers)
    return random_weights(config.with_layers(layers), seed).eval()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mask_of(lengths: list[int]) -> Tensor:
    """Make the mask (b, 1, 1, n) of rows of these lengths."""
    return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])[:, None, None, :]


def test_what_ordinary_encoders_write_stays() -> None:
    """Hashes of records and artifacts depend on this text."""
    written = json.loads(TINY.model_dump_json())
    assert list(written["layers"][0]) == ["heads", "head_size", "ffn_size", "ranks", "shares_with"]
    assert not {"words", "exit_rule", "segment_positions"} & set(written)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_same_logits_after_a_round_trip(kind: AttentionKind, tmp_path: Path) -> None:
    model = with_attention(kind)
    assert EncoderConfig.model_validate_json(model.config.model_dump_json()) == model.config
    save_artifact(model, tmp_path / "artifact")
    again = load_artifact(tmp_path / "artifact")
    assert again.config == model.config
    assert torch.equal(logits(again, BATCH), logits(model, BATCH))
    assert encoder_parameters(model.config) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_padding_and_neighbours_do_not_matter(kind: AttentionKind) -> None:
    model = with_attention(kind)
    together = logits(model, BATCH)
    for row, length in enumerate([9, 4, 17]):
        alone = Batch(*(tensor[row : row + 1, :length] for tensor in vars(BATCH).values()))
        assert (logits(model, alone) - together[row]).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_it_is_not_full_attention(kind: AttentionKind) -> None:
    """With the same weights, each kind computes other logits than full attention, with maps and without."""
    model = with_attention(kind)
    full = random_weights(TINY, 0).eval()
    full.load_state_dict({n: t for n, t in model.state_dict().items() if ".places." not in n})
    assert (logits(model, BATCH) - logits(full, BATCH)).abs().max() > 1e-4
    with torch.inference_mode():
        written_out = model(BATCH, attentions=True)
    assert (written_out.logits - logits(model, BATCH)).abs().max() <= 1e-5
    sums = [a.probabilities.sum(-1) for a in written_out.attentions]
    assert all(torch.allclose(total, torch.ones_like(total), atol=1e-5) for total in sums)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    window=st.integers(1, 9),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_blocks_compute_what_the_dense_mask_does(lengths: list[int], window: int, seed: int) -> None:
    attention, n = WindowAttention(0.0, window).eval(), max(lengths)
    query, key, value = (draw(len(lengths), 2, n, 5, seed=seed + part) for part in range(3))
    mask = mask_of(lengths)
    allowed = torch.tensor([[abs(i - j) <= window or 0 in (i, j) for j in range(n)] for i in range(n)])
    scores = (query @ key.transpose(-1, -2) / math.sqrt(5)).masked_fill(~(mask & allowed), -math.inf)
    expected = scores.softmax(-1) @ value
    assert (attention._by_blocks(query, key, value, mask) - expected).abs().max() <= 1e-5
    context, _ = attention(query, key, value, mask)
    assert (context - expected.transpose(1, 2).flatten(2)).abs().max() <= 1e-5


def test_blocks_are_taken_where_they_are_less_work() -> None:
    # Five blocks of 4 queries with 12 keys and the first key; the first query with all 18.
    assert window_scores(18, 4) == 5 * 4 * 13 + 18 == 278 < 18**2
    assert window_scores(12, 4) == 3 * 4 * 13 + 12 == 168 > 12**2
    assert window_scores(512, 16) / 512**2 < 0.1


def test_the_largest_scores_and_their_ties_stay() -> None:
    attention = ExplicitSparseAttention(0.0, 2)
    scores = torch.tensor([[[[3.0, 2.0, 2.0, 1.0], [0.0, 5.0, -math.inf, -math.inf]]]])
    kept = attention.adjust(scores)[0, 0]
    assert kept[0].tolist() == [3.0, 2.0, 2.0, -math.inf]
    assert kept[1].tolist() == [0.0, 5.0, -math.inf, -math.inf]
    # One head of size 1: the scores of the query 1 are 3, 2, 2, 1; each value shows the weight of its key.
    key = torch.tensor([3.0, 2.0, 2.0, 1.0]).view(1, 1, 4, 1)
    context, attended = attention(torch.ones(1, 1, 1, 1), key, torch.eye(4)[None, None], mask_of([4]), True)
    e = math.e
    expected = torch.tensor([e, 1, 1, 0]) / (e + 2)
    assert torch.allclose(context[0, 0], expected)
    assert torch.allclose(attended.probabilities[0, 0, 0], expected)
    assert attended.scores.flatten().tolist() == [3, 2, 2, 1], "scores are those before the choice"


def test_as_many_scores_as_tokens_are_full_attention() -> None:
    model, full = with_attention(TopKAttention(k=17)), random_weights(TINY, 0).eval()
    assert equal_weights(model, full)
    assert (logits(model, BATCH) - logits(full, BATCH)).abs().max() <= 1e-5


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_place_belongs_to_a_sequence_that_reaches_its_block(projected: int, length: int) -> None:
    kind = LinformerAttention(projected=min(projected, length), length=length)
    starts = [kind.start(place) for place in range(kind.projected)]
    assert starts[0] == 0
    for tokens in range(1, length + 1):
        assert kind.places(tokens) == sum(start < tokens for start in starts)
    weights = Places(kind).pooling()
    # Means over consecutive blocks that cover each token once.
    assert torch.allclose(weights.sum(1), torch.ones(kind.projected))
    assert ((weights > 0).sum(0) == 1).all()
    blocks = (weights > 0).float().argmax(0)
    assert (blocks.diff() >= 0).all()


def test_linformer_follows_its_formula() -> None:
    """softmax(Q (E K)ᵀ / √d) F V on one row without padding; biases are added after the projection."""
    model = with_attention(KINDS["linformer"])
    layer, x = model.layers[0], draw(1, 13, 24)
    source, places = layer.attention_in, 4  # the blocks of 9 places over 32 tokens begin at 0, 3, 7, 10, 14 …
    assert KINDS["linformer"].places(13) == places
    e, f = source.places.keys[:places, :13], source.places.values[:places, :13]
    query = source.query(x)[0].unflatten(-1, (2, 12)).transpose(0, 1)
    key = functional.linear(e @ x[0], source.key.weight, source.key.bias)
    value = functional.linear(f @ x[0], source.value.weight, source.value.bias)
    key, value = (t.unflatten(-1, (2, 12)).transpose(0, 1) for t in (key, value))
    expected = (query @ key.transpose(-1, -2) / math.sqrt(12)).softmax(-1) @ value
    mask = torch.ones(1, 1, 1, 13, dtype=torch.bool)
    found, attended = layer.attention(*source(x, mask), mask, maps=True)
    assert attended.probabilities.shape == (1, 2, 13, places)
    assert (found[0] - expected.transpose(0, 1).flatten(1)).abs().max() <= 1e-5


def test_as_many_places_as_tokens_are_full_attention() -> None:
    """With one token per place, each mean is its token, and the places of padding are masked."""
    full = random_weights(TINY, 0).eval()
    model = set_attention(full, LinformerAttention(projected=32, length=32))
    assert (logits(model, BATCH) - logits(full, BATCH)).abs().max() <= 1e-5
    shared = set_attention(full, LinformerAttention(projected=32, length=32, shared_kv=True))
    assert (logits(shared, BATCH) - logits(full, BATCH)).abs().max() <= 1e-5
    assert (
        sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in full.parameters())
        == 2 * 2 * 32 * 32
    )


def test_nothing_passes_between_segments() -> None:
    """If its positions start at 0, each segment has the same states as alone."""
    config = EncoderConfig.model_validate({**TINY.model_dump(), "segment_positions": "own"})
    model = with_attention(SegmentAttention(), config=config)
    pair = random_batch([12], TINY.vocab_size, pairs=True)
    assert pair.token_type_ids[0].tolist() == [0] * 6 + [1] * 6
    with torch.inference_mode():
        states = model(pair, hidden_states=True).hidden_states[-1]
        for part in (slice(0, 6), slice(6, 12)):
            alone = model(Batch(*(t[:, part] for t in vars(pair).values())), hidden_states=True)
            assert (states[:, part] - alone.hidden_states[-1]).abs().max() <= 1e-5
    continued = random_weights(with_attention(SegmentAttention()).config, 0).eval()
    assert equal_weights(continued, model)
    assert (logits(continued, pair) - logits(model, pair)).abs().max() <= 1e-5, (
        "the head reads the first segment"
    )
    full = random_weights(config, 0).eval()
    ordinary = random_weights(TINY, 0).eval()
    assert (logits(full, pair) - logits(ordinary, pair)).abs().max() > 1e-4, "positions of its own are others"


def test_a_query_that_is_padding_has_something_to_attend_to() -> None:
    """Otherwise its states would be NaN and spread over the row, because 0 · NaN is NaN."""
    batch = random_batch([3, 6], TINY.vocab_size)
    batch.token_type_ids[0, 3:] = 1
    mask = Tokens.of(batch).mask(SegmentAttention())
    assert mask.any(-1).all()
    assert mask[0, 0, 0].tolist() == [True] * 3 + [False] * 3
    assert torch.isfinite(logits(with_attention(SegmentAttention()), batch)).all()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_surgery_carries_attention(kind: AttentionKind) -> None:
    """A cut that removes nothing does not change the logits."""
    model = with_attention(kind)
    before = logits(model, BATCH)
    heads, columns = [range(2)] * 2, [range(40)] * 2
    for same in (
        keep_layers(model, [0, 1]),
        keep_heads(model, heads),
        keep_columns(model, columns),
        keep_hidden(model, range(24)),
        factorize(model, {"query": 24, "key": 24, "value": 24}),
    ):
        assert (logits(same, BATCH) - before).abs().max() <= 1e-5
        assert {layer.attention for layer in same.config.layers} == {kind}
    shared = share_layers(model, [None, 0])
    assert shared.layers[0] is shared.layers[1]
    assert encoder_parameters(shared.config) == sum(p.numel() for p in shared.parameters())
    few = keep_heads(model, [[1], []])
    assert torch.isfinite(logits(few, BATCH)).all()
    assert encoder_parameters(few.config) == sum(p.numel() for p in few.parameters())


def test_setting_attention_copies_and_can_be_taken_back() -> None:
    full = random_weights(TINY, 0).eval()
    before = copy.deepcopy(full)
    local = set_attention(full, LocalAttention(window=1), [1])
    assert [layer.attention for layer in local.config.layers] == [None, LocalAttention(window=1)]
    assert equal_weights(full, before)
    back = set_attention(set_attention(full, KINDS["linformer"]), None)
    assert back.config == full.config
    assert equal_weights(back, full)


def test_layers_that_share_weights_attend_alike() -> None:
    shared = share_layers(random_weights(TINY.with_layers(TINY.layers[:1] * 2), 0), [None, 0])
    with refused(Code.WRONG_SHAPE, "layer 1", "layer 0"):
        set_attention(shared, SegmentAttention(), [0])
    assert set_attention(shared, KINDS["linformer"]).layers[0].attention_in.places is not None


def test_projections_hold_the_longest_sequence() -> None:
    full = random_weights(TINY, 0).eval()
    with refused(Code.WRONG_SHAPE, "16 tokens", "32 positions"):
        set_attention(full, LinformerAttention(projected=4, length=16))
    short = keep_positions(full, 16)
    model = set_attention(short, LinformerAttention(projected=4, length=16))
    batch = random_batch([16, 3], TINY.vocab_size)
    assert torch.isfinite(logits(model, batch)).all()
    assert torch.equal(logits(short, batch), logits(full, batch))
    with refused(Code.TOO_LONG, "17 tokens", "16 positions"):
        model(random_batch([17], TINY.vocab_size))
    with refused(Code.OUT_OF_RANGE, "40", "32"):
        keep_positions(full, 40)
    with pytest.raises(ValueError, match=r"8 tokens .* 9 places"):
        LinformerAttention(projected=9, length=8)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_transformers_cannot_express_it(kind: AttentionKind, tmp_path: Path) -> None:
    with refused("transformers", "attention"):
        save_checkpoint(with_attention(kind), tmp_path / "folder")
    with refused("transformers", "attention"):
        save_checkpoint(own_segment_positions(random_weights(TINY, 0)), tmp_path / "folder")


def test_dropout_acts_on_every_kind() -> None:
    for kind in KINDS.values():
        layer = TINY.layers[0].model_copy(update={"attention": kind})
        attention = make_attention(TINY.model_copy(update={"attention_dropout": 0.5}), layer).train()
        size = 4 if isinstance(kind, LinformerAttention) else 14
        query, key, value = draw(1, 2, 14, 6), draw(1, 2, size, 6, seed=1), draw(1, 2, size, 6, seed=2)
        torch.manual_seed(0)
        one, other = (attention(query, key, value, mask_of([14]))[0] for _ in range(2))
        assert not torch.equal(one, other)
