"""Batches: their content, independence of padding and of other rows, and wrong input to `encode`."""

from __future__ import annotations

import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as FastTokenizer

from harness.common.errors import Code
from harness.models.batch import Batch
from harness.models.checkpoints import random_model
from harness.models.encoder.encoder import Encoder
from harness.models.tokenizer import Tokenizer
from tests.support.encoder_models import TINY, logits, random_batch, random_weights, sentences
from tests.support.one_line_errors import refused

TEXTS = ["the bridge", "a sailor was under the narrow bridge, because winter stays", "quiet"]


def pad(batch: Batch, more: int, token: int = 0) -> Batch:
    shape = (len(batch), more)
    padding = (
        torch.full(shape, token),
        torch.zeros(shape, dtype=torch.long),
        torch.zeros(shape, dtype=torch.long),
    )
    return Batch(*(torch.cat(pair, 1) for pair in zip(vars(batch).values(), padding, strict=True)))


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    more=st.integers(1, 12),
    token=st.integers(0, TINY.vocab_size - 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_padding_and_neighbours_do_not_matter(lengths: list[int], more: int, token: int, seed: int) -> None:
    model = random_weights(TINY, seed % 3)
    batch = random_batch(lengths, TINY.vocab_size, seed)
    together = logits(model, batch)
    assert (logits(model, pad(batch, more, token)) - together).abs().max() <= 1e-5
    for row, length in enumerate(lengths):
        alone = Batch(*(tensor[row : row + 1, :length] for tensor in vars(batch).values()))
        assert (logits(model, alone) - together[row]).abs().max() <= 1e-5
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))
    shuffled = Batch(*(tensor[order] for tensor in vars(batch).values()))
    assert (logits(model, shuffled) - together[order]).abs().max() <= 1e-5


def test_spans_do_not_depend_on_padding() -> None:
    model = random_weights(TINY.with_head("span", 2), 0)
    batch = random_batch([7, 12], TINY.vocab_size)
    padded = logits(model, pad(batch, 9))
    assert padded.shape == (2, 21, 2)
    assert (padded[:, :12] - logits(model, batch)).abs().max() <= 1e-5


def test_tokens_order_segments_and_mask_matter(tiny: Encoder) -> None:
    """Whatever must change the logits does so; the tests above show what must not."""
    batch = random_batch([8, 8], TINY.vocab_size, pairs=True)
    base = logits(tiny, batch)
    changed = {
        "tokens": Batch(batch.input_ids.flip(1), batch.attention_mask, batch.token_type_ids),
        "segments": Batch(batch.input_ids, batch.attention_mask, 1 - batch.token_type_ids),
        "mask": Batch(batch.input_ids, (torch.arange(8) < 4).expand(2, 8).long(), batch.token_type_ids),
    }
    for name, other in changed.items():
        assert ((logits(tiny, other) - base).abs().amax(1) > 1e-4).all(), name


def test_encode_marks_tokens_pairs_and_padding(tiny: Encoder) -> None:
    batch = tiny.encode(["the bridge", "quiet"], ["a clock", "winter stays under the market"])
    assert len(batch) == 2
    assert batch.input_ids.shape == batch.attention_mask.shape == batch.token_type_ids.shape
    words = [[tiny.require_tokenizer().fast.id_to_token(int(i)) for i in row] for row in batch.input_ids]
    assert words[0][:7] == ["[CLS]", "the", "bridge", "[SEP]", "a", "clock", "[SEP]"]
    assert set(words[0][7:]) == {"[PAD]"}
    assert batch.attention_mask.sum(1).tolist() == [7, 9]
    assert batch.token_type_ids[0].tolist() == [0] * 4 + [1] * 3 + [0] * 2
    assert {tensor.dtype for tensor in vars(batch).values()} == {torch.int64}


def test_rows_and_device(tiny: Encoder) -> None:
    batch = tiny.encode(TEXTS)
    part = batch.rows(1, 3)
    assert len(part) == 2
    assert torch.equal(part.input_ids, batch.input_ids[1:3])
    assert torch.equal(batch.to("cpu").attention_mask, batch.attention_mask)


def test_synthetic_rows_are_full_and_seeded() -> None:
    one, again, other = (Batch.synthetic(3, 16, 50, seed) for seed in (0, 0, 1))
    assert one.input_ids.shape == (3, 16)
    assert one.attention_mask.all()
    assert 0 <= one.input_ids.min() <= one.input_ids.max() < 50
    assert torch.equal(one.input_ids, again.input_ids)
    assert not torch.equal(one.input_ids, other.input_ids)


def test_encode_cuts_at_the_limit(tiny: Encoder) -> None:
    long = " ".join(sentences(20))
    assert tiny.encode([long]).input_ids.shape == (1, TINY.positions)
    cut = tiny.encode([long], max_length=9).input_ids
    assert cut.shape == (1, 9)
    assert int(cut[0, -1]) == tiny.require_tokenizer().fast.token_to_id("[SEP]")
    pair = tiny.encode(["the bridge"], [long], max_length=12)
    assert pair.input_ids.shape == (1, 12)
    assert torch.equal(pair.input_ids[0, :4], tiny.encode(["the bridge"]).input_ids[0]), (
        "the longer text is cut"
    )
    # The limit of one call does not apply to the next.
    assert tiny.encode([long]).input_ids.shape == (1, TINY.positions)


def test_too_long_sequences(tiny: Encoder) -> None:
    assert logits(tiny, Batch.synthetic(1, TINY.positions, 40)).shape == (1, 2)
    for use in (
        lambda: tiny(Batch.synthetic(1, TINY.positions + 1, 40)),
        lambda: tiny.encode(["the bridge"], max_length=TINY.positions + 1),
        lambda: tiny.check_length(TINY.positions + 1),
    ):
        with refused(Code.TOO_LONG, "33 tokens", "32 positions"):
            use()


def test_what_encode_refuses(tiny: Encoder) -> None:
    with refused(Code.NO_DATA):
        tiny.encode([])
    with refused(Code.WRONG_KIND, "texts"):
        tiny.encode("the bridge")  # type: ignore[arg-type]
    with refused(Code.INCOMPLETE, "2 texts", "1 pairs"):
        tiny.encode(["the", "a"], ["bridge"])
    with refused(Code.OUT_OF_RANGE, "max_length=1", "2"):
        tiny.encode(["the"], max_length=1)
    with refused(Code.OUT_OF_RANGE, "max_length=2", "3"):
        tiny.encode(["the"], ["a"], max_length=2)
    with refused(Code.INCOMPLETE, "tokenizer", "bert-skyline[offline]"):
        random_model(TINY, 0).encode(["the bridge"])


def test_unusual_texts(tiny: Encoder) -> None:
    """Empty and blank texts, unknown letters and emoji each give a row with at least the two special tokens."""
    batch = tiny.encode(["", "   ", "ß 漢字 🙂", "\t\n"])
    assert batch.attention_mask.sum(1).min() == 2
    assert torch.isfinite(logits(tiny, batch)).all()


def test_tokenizer_json_round_trip(tiny: Encoder, minilm: Encoder) -> None:
    for model in (tiny, minilm):
        tokenizer = model.require_tokenizer()
        again = Tokenizer(FastTokenizer.from_str(tokenizer.to_json()))
        assert again.to_json() == tokenizer.to_json()
        texts = sentences(20, 5)
        one, other = (t.encode(texts, texts[::-1], 32) for t in (tokenizer, again))
        for name in vars(one):
            assert torch.equal(getattr(one, name), getattr(other, name))
        assert again.vocab_size == tokenizer.vocab_size == model.config.vocab_size
        assert again.pad_id == tokenizer.pad_id == 0


def test_a_stored_tokenizers_own_limits_do_not_apply(tiny: Encoder) -> None:
    fast = FastTokenizer.from_str(tiny.require_tokenizer().to_json())
    fast.enable_truncation(4)
    fast.enable_padding(length=20)
    batch = Tokenizer(FastTokenizer.from_str(fast.to_str())).encode(TEXTS, None, 32)
    assert torch.equal(batch.input_ids, tiny.encode(TEXTS).input_ids)


def test_components_in_order_and_copies(tiny: Encoder) -> None:
    parts = list(tiny.components())
    per_layer = ["attention_in", "attention", "attention_out", "ffn"]
    assert [name for name, _, _ in parts] == ["embedding", *per_layer * 2, "head"]
    for _, path, module in parts:
        assert tiny.get_submodule(path) is module
    owned = [id(p) for _, _, module in parts for p in module.parameters()]
    assert sorted(owned) == sorted(id(p) for p in tiny.parameters()), (
        "a parameter belongs to no component, or to two"
    )
    batch = tiny.encode(TEXTS)
    twin = copy.deepcopy(tiny)
    assert torch.equal(logits(twin, batch), logits(tiny, batch))
    twin.head.classifier.bias.data.add_(1)
    assert not torch.equal(logits(twin, batch), logits(tiny, batch))


def test_dropout_acts_in_training_only() -> None:
    model = random_weights(TINY, 0)
    batch = random_batch([9, 9], TINY.vocab_size)
    assert torch.equal(logits(model, batch), logits(model, batch))
    model.train()
    torch.manual_seed(0)
    assert not torch.equal(logits(model, batch), logits(model, batch))
    still = random_weights(TINY.model_copy(update={"dropout": 0.0, "attention_dropout": 0.0}), 0).train()
    assert torch.equal(logits(still, batch), logits(model.eval(), batch))
