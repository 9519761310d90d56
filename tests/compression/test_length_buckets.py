"""Tokenized splits and their batches: every row once, little padding, the same for a seed."""

from __future__ import annotations

import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.common.errors import Code
from harness.compression.encoded_rows import CHUNK, EncodedSplit, encode_examples
from harness.models.encoder.encoder import Encoder
from harness.tasks.base import Example, Span
from tests.support.encoder_models import TINY, random_weights, sentences
from tests.support.one_line_errors import refused


def split(lengths: list[int], pad_id: int = 0) -> EncodedSplit:
    """Row i holds the tokens 1000 i + 1, 1000 i + 2, …"""
    ids = [[1000 * row + place + 1 for place in range(length)] for row, length in enumerate(lengths)]
    segments = [[int(place > length // 2) for place in range(length)] for length in lengths]
    return EncodedSplit(ids, segments, torch.arange(len(lengths)), pad_id)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=400)


@given(LENGTHS, st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_every_row_once_in_an_epoch(lengths: list[int], size: int, seed: int) -> None:
    batches = list(split(lengths).shuffled_batches(size, generator(seed)))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in batches)
    # Only the last batch of a chunk may be smaller.
    assert sum(len(batch) < size for batch in batches) <= -(-len(lengths) // (size * CHUNK))
    assert batches == list(split(lengths).shuffled_batches(size, generator(seed)))


@given(LENGTHS, st.integers(1, 500))
@settings(max_examples=50, deadline=None)
def test_sorted_batches_stay_within_their_tokens(lengths: list[int], tokens: int) -> None:
    batches = list(split(lengths).sorted_batches(tokens))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    flat = [lengths[row] for batch in batches for row in batch]
    assert flat == sorted(flat, reverse=True)
    for place, batch in enumerate(batches):
        longest = max(lengths[row] for row in batch)
        assert longest * len(batch) <= tokens or len(batch) == 1
        if place + 1 < len(batches):
            assert longest * (len(batch) + 1) > tokens, "a batch could have been larger"


def wasted(lengths: list[int], batches: list[list[int]]) -> float:
    """The share of padding among all tokens that are computed."""
    padded = sum(max(lengths[row] for row in batch) * len(batch) for batch in batches)
    return 1 - sum(lengths) / padded


def test_buckets_waste_less_than_random_batches() -> None:
    draw = random.Random(0)
    lengths = [min(128, max(3, round(draw.lognormvariate(3, 0.7)))) for _ in range(5000)]
    order = torch.randperm(5000, generator=generator(0)).tolist()
    at_random = wasted(lengths, [order[i : i + 32] for i in range(0, 5000, 32)])
    bucketed = wasted(lengths, list(split(lengths).shuffled_batches(32, generator(0))))
    by_length = wasted(lengths, list(split(lengths).sorted_batches(32 * 128)))
    assert at_random > 0.5
    assert bucketed < at_random / 5
    assert by_length < at_random / 5


def test_epochs_differ_and_are_random() -> None:
    rows = split([10] * 3000)
    source = generator(0)
    first, second = (list(rows.shuffled_batches(16, source)) for _ in range(2))
    assert first != second
    assert first != list(rows.shuffled_batches(16, generator(1)))
    # Nor do batches come in the order of their length: the long ones are spread over the epoch.
    lengths = [1 + row % 50 for row in range(16 * CHUNK)]
    batches = list(split(lengths).shuffled_batches(16, source))
    means = [sum(lengths[row] for row in batch) / len(batch) for batch in batches]
    third = len(means) // 3
    thirds = [sum(means[i : i + third]) / third for i in (0, third, 2 * third)]
    assert max(thirds) - min(thirds) < 15


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.data())
@settings(max_examples=40, deadline=None)
def test_batches_hold_their_rows(lengths: list[int], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.sampled_from(range(len(lengths))), min_size=1, max_size=8))
    batch = split(lengths, pad_id=7).batch(rows)
    assert batch.input_ids.shape == (len(rows), max(lengths[row] for row in rows))
    for place, row in enumerate(rows):
        n = lengths[row]
        assert batch.input_ids[place, :n].tolist() == [1000 * row + i + 1 for i in range(n)]
        assert batch.token_type_ids[place, :n].tolist() == [int(i > n // 2) for i in range(n)]
        assert batch.attention_mask[place].tolist() == [1] * n + [0] * (batch.input_ids.shape[1] - n)
        assert (batch.input_ids[place, n:] == 7).all()
        assert not batch.token_type_ids[place, n:].any()


def test_encoded_rows_are_what_encode_gives(tiny: Encoder) -> None:
    texts, others = sentences(12, 1), sentences(12, 2)
    for pairs in (None, others):
        examples = [
            Example(text, pair, i % 3)
            for i, (text, pair) in enumerate(zip(texts, pairs or [None] * 12, strict=True))
        ]
        encoded = encode_examples(examples, tiny, "classification", 24, "memory")
        assert len(encoded) == 12
        direct = tiny.encode(texts, pairs, 24)
        batch = encoded.batch(range(12))
        for name in vars(batch):
            assert torch.equal(getattr(batch, name), getattr(direct, name))
        assert encoded.targets.tolist() == [i % 3 for i in range(12)]
        assert encoded.targets.dtype == torch.int64


def test_targets_of_scores_and_spans(tiny: Encoder) -> None:
    scored = encode_examples([Example("the bridge", "a clock", 2.5)], tiny, "regression", 16, "memory")
    assert scored.targets.dtype == torch.float32
    assert scored.targets.tolist() == [2.5]
    context = "the sailor stays under the narrow bridge"
    example = Example("quiet winter", context, Span(("narrow bridge",), (context.index("narrow"),)))
    wide = random_weights(TINY.model_copy(update={"positions": 256}), 0, tiny.tokenizer)
    spans = encode_examples([example], wide, "span", 256, "memory")
    assert spans.targets.shape == (1, 2)
    start, end = spans.targets[0].tolist()
    ids = spans.batch([0]).input_ids[0]
    fast = tiny.require_tokenizer().fast
    assert [fast.id_to_token(int(i)) for i in ids[start : end + 1]] == ["narrow", "bridge"]


def test_what_cannot_be_encoded(tiny: Encoder) -> None:
    example = Example("the bridge", None, 0)
    with refused(Code.NO_DATA, "dev.tsv"):
        encode_examples([], tiny, "classification", 16, "dev.tsv")
    with refused(Code.TOO_LONG, "64", "32 positions"):
        encode_examples([example], tiny, "classification", 64, "x")
    with refused("tokenizer"):
        encode_examples([example], random_weights(TINY, 0), "classification", 16, "x")
    with refused("special"):
        encode_examples([example], tiny, "classification", 1, "x")
