"""Cached second segments give the same logits as pairs."""

from __future__ import annotations

import pytest
import torch

from harness.common.errors import Code
from harness.models.attention_kinds import LocalAttention, SegmentAttention, TopKAttention
from harness.models.batch import Batch
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.segment_cache import (
    SecondCached,
    encode_segments,
    separate_layers,
    split_segments,
)
from harness.models.surgery import keep_word_vectors, own_segment_positions, set_attention
from harness.models.tokenizer import Tokenizer
from tests.support.encoder_models import TINY, logits, random_batch, random_weights, sentences
from tests.support.one_line_errors import refused

DEEP = TINY.with_layers(TINY.layers[:1] * 4)


def separated(config: EncoderConfig = DEEP, tokenizer: Tokenizer | None = None) -> Encoder:
    """Make an encoder of two layers with attention within segments, and two with full attention above."""
    model = own_segment_positions(random_weights(config, 0, tokenizer)).eval()
    return set_attention(model, SegmentAttention(), [0, 1])


def pairs(lengths: list[tuple[int, int]]) -> Batch:
    """Make rows of a first and a second segment of these lengths."""
    batch = random_batch([one + other for one, other in lengths], DEEP.vocab_size)
    for row, (one, other) in enumerate(lengths):
        batch.token_type_ids[row, one : one + other] = 1
    return batch


def cached_logits(model: Encoder, batch: Batch) -> torch.Tensor:
    first, second = split_segments(batch)
    with torch.inference_mode():
        return SecondCached(model, encode_segments(model, second))(first).logits


def test_the_logits_of_pairs() -> None:
    model = separated()
    assert separate_layers(model.config) == 2
    batch = pairs([(5, 7), (2, 12), (9, 1)])
    assert (cached_logits(model, batch) - logits(model, batch)).abs().max() <= 1e-5


def test_the_logits_of_real_pairs(tiny_tokenizer: Tokenizer) -> None:
    model = separated(tokenizer=tiny_tokenizer)
    batch = model.encode(sentences(8, 1), sentences(8, 2))
    assert batch.token_type_ids.any()
    assert (cached_logits(model, batch) - logits(model, batch)).abs().max() <= 1e-5


def test_the_logits_of_spans_come_segment_by_segment() -> None:
    model = separated(DEEP.with_head("span", 2))
    batch = pairs([(5, 7), (5, 7)])
    assert (cached_logits(model, batch) - logits(model, batch)).abs().max() <= 1e-5


def test_one_cache_serves_every_first_segment() -> None:
    """The second segment's states do not depend on the length of the first."""
    model = separated()
    second = split_segments(pairs([(5, 7)]))[1]
    with torch.inference_mode():
        states = encode_segments(model, second)
    for length in (1, 4, 11):
        batch = pairs([(length, 7)])
        ids = torch.cat([batch.input_ids[:, :length], second.input_ids], dim=1)
        whole = Batch(ids, batch.attention_mask, batch.token_type_ids)
        with torch.inference_mode():
            found = SecondCached(model, states)(split_segments(whole)[0]).logits
        assert (found - logits(model, whole)).abs().max() <= 1e-5


def test_upper_layers_may_eliminate_and_choose() -> None:
    model = set_attention(separated(), TopKAttention(k=4), [2, 3])
    model = keep_word_vectors(model, (None, None, 6, 3))
    batch = pairs([(5, 7), (2, 12)])
    assert (cached_logits(model, batch) - logits(model, batch)).abs().max() <= 1e-5


def test_segments_are_split_without_their_padding() -> None:
    batch = pairs([(2, 3), (4, 4)])
    first, second = split_segments(batch)
    assert first.attention_mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert second.attention_mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert first.input_ids[0, :2].tolist() == batch.input_ids[0, :2].tolist()
    assert second.input_ids[0, :3].tolist() == batch.input_ids[0, 2:5].tolist()
    assert second.token_type_ids.tolist() == second.attention_mask.tolist()
    assert first.token_type_ids.sum() == 0


def test_components_are_those_of_the_encoder() -> None:
    model = separated()
    cached = SecondCached(model, encode_segments(model, split_segments(pairs([(2, 3)]))[1]))
    for component, path, module in cached.components():
        assert cached.get_submodule(path) is module
        assert component in {name for name, _, _ in model.components()}


def test_what_has_no_second_segment_has_nothing_to_cache() -> None:
    with refused(Code.WRONG_KIND, "second segment"):
        split_segments(random_batch([5, 7], DEEP.vocab_size))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (random_weights(DEEP, 0), "first segment"),
        (set_attention(random_weights(DEEP, 0), SegmentAttention(), [0, 1]), "first segment"),
        (own_segment_positions(random_weights(DEEP, 0)), "first segment"),
        (set_attention(separated(), LocalAttention(window=2), [2]), "upper layers"),
        (keep_word_vectors(separated(), (5, None, None, None)), "word-vectors"),
    ],
)
def test_states_that_depend_on_the_first_segment_are_refused(model: Encoder, name: str) -> None:
    with refused(Code.WRONG_SHAPE, name, "'deformer'"):
        separate_layers(model.config)
