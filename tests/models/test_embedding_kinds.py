"""Word embeddings from code books and from hashed buckets: values, storage and counts, computed here by hand."""

from __future__ import annotations

import hashlib
import json
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from harness.common.errors import Code, SkylineError
from harness.models import surgery
from harness.models.artifacts import CONFIG, WEIGHTS, load_artifact, save_artifact, to_dense
from harness.models.batch import Batch
from harness.models.checkpoints import random_model, save_checkpoint
from harness.models.codecs import Codec, Codes, Pack
from harness.models.config import CodedWords, EncoderConfig, HashedWords
from harness.models.embeddings import CodedEmbedding, HashedEmbedding
from harness.models.encoder.encoder import Encoder
from harness.models.flops.counting import count_flops
from harness.models.parameter_counts import count, encoder_parameters
from harness.profiling.costs.components import component_params, component_weight_bytes, stored_params
from harness.profiling.costs.size import artifact_facts
from tests.support.encoder_models import TINY
from tests.support.one_line_errors import refused

CODES, HASHES = CodedWords(books=3, entries=8), HashedWords(buckets=20, hashes=2)
KINDS = {"codes": CODES, "hash": HASHES}
V, H = TINY.vocab_size, TINY.hidden_size


def coded(seed: int = 0) -> Encoder:
    """Make a tiny encoder with coded words, as a method would."""
    generator = torch.Generator().manual_seed(seed)
    dense = random_model(TINY, seed)
    codes = torch.randint(0, CODES.entries, (V, CODES.books), generator=generator)
    books = torch.randn(CODES.books, CODES.entries, H, generator=generator)
    return surgery.code_words(dense, codes.to(torch.uint8), books).eval()


def hashed(seed: int = 0) -> Encoder:
    generator = torch.Generator().manual_seed(seed)
    buckets = torch.randn(HASHES.buckets, H, generator=generator)
    importance = torch.randn(V, HASHES.hashes, generator=generator)
    return surgery.hash_words(random_model(TINY, seed), buckets, importance).eval()


MAKE = {"codes": coded, "hash": hashed}


@pytest.fixture(params=["codes", "hash"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def words(model: Encoder) -> torch.Tensor:
    """Return the embeddings of all tokens (V, H)."""
    with torch.no_grad():
        embedded: torch.Tensor = model.embedding.word(torch.arange(model.config.vocab_size)[None])[0]
    return embedded


def test_codes_choose_one_entry_of_each_book() -> None:
    module = CodedEmbedding(3, 2, CodedWords(books=2, entries=4))
    module.weight.data = torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0], [0, 10], [0, 20], [0, 30], [0, 40]])
    module.codes.data = torch.tensor([[0, 3], [2, 1], [3, 0]], dtype=torch.uint8)
    found = module(torch.tensor([[0, 1], [2, 1]]))
    assert found.tolist() == [[[1, 40], [3, 20]], [[4, 10], [3, 20]]]


def test_hashes_choose_buckets_that_the_token_weighs() -> None:
    module = HashedEmbedding(5, 2, HashedWords(buckets=7, hashes=2))
    module.weight.data = torch.arange(14.0).view(7, 2)
    module.importance.data = torch.tensor([[1.0, 2], [3, -1], [0, 1], [2, 0.5], [-1, 4]])
    pool, p = module.weight.data.numpy(), module.importance.data.numpy()
    for token in range(5):
        expected = np.zeros(2)
        for place in range(2):
            digest = hashlib.sha256(f"word hash {place}".encode()).digest()
            a = 1 + int.from_bytes(digest[:8], "little") % (2**31 - 2)
            b = int.from_bytes(digest[8:16], "little") % (2**31 - 1)
            expected += p[token, place] * pool[(a * token + b) % (2**31 - 1) % 7]
        assert np.allclose(module(torch.tensor([[token]]))[0, 0].detach().numpy(), expected, atol=1e-5)


def test_hashes_spread_bert_s_vocabulary_evenly_and_apart() -> None:
    places = HashedEmbedding(1, 1, HashedWords(buckets=4096, hashes=2)).places(torch.arange(30522))
    assert 0 <= int(places.min()) <= int(places.max()) < 4096
    used = torch.bincount(places.flatten(), minlength=4096).double()
    # Of 61,044 independent draws into 4,096 buckets: mean 14.9, variance about as large.
    assert 0.8 < float(used.var() / used.mean()) < 1.2
    alike = 30522 - len(torch.unique(places[:, 0] * 4096 + places[:, 1]))
    assert alike < 100  # by chance 28 tokens share both buckets with another


def test_ids_near_the_largest_do_not_overflow() -> None:
    module = HashedEmbedding(1, 1, HashedWords(buckets=1000, hashes=16))
    token = 2**31 - 1
    expected = [(a * token + b) % (2**31 - 1) % 1000 for a, b in module.hashes]
    assert module.places(torch.tensor([token]))[0].tolist() == expected


@pytest.mark.parametrize("config", [TINY, EncoderConfig.bert(1, 24, 2, embedding_rank=4)])
def test_a_table_s_configuration_reads_as_it_always_did(config: EncoderConfig) -> None:
    keys = [
        *("vocab_size", "hidden_size", "embedding_rank", "positions", "segments", "layers", "head"),
        *("activation", "dropout", "attention_dropout", "layer_norm_eps", "pooler"),
    ]
    assert list(json.loads(config.model_dump_json())) == list(config.model_dump()) == keys
    assert EncoderConfig.model_validate_json(config.model_dump_json()) == config


@given(
    st.builds(CodedWords, books=st.integers(1, 64), entries=st.sampled_from([2, 4, 8, 16, 256]))
    | st.builds(HashedWords, buckets=st.integers(1, 9999), hashes=st.integers(1, 16))
)
def test_a_configuration_with_words_comes_back_from_json(made: CodedWords | HashedWords) -> None:
    config = TINY.with_words(made)
    assert EncoderConfig.model_validate_json(config.model_dump_json()) == config
    assert config.model_dump()["words"]["kind"] == made.kind


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({"kind": "codes", "entries": 12}, "not 12"),
        ({"kind": "codes", "entries": 512}, "256"),
        ({"kind": "hash", "buckets": 0}, "buckets"),
        ({"kind": "tree"}, "'codes', 'hash'"),
    ],
)
def test_words_that_cannot_be(words: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        EncoderConfig.model_validate({**TINY.model_dump(), "words": words})
    with pytest.raises(ValueError, match="rank"):
        EncoderConfig.model_validate({**TINY.model_dump(), "words": {"kind": "hash"}, "embedding_rank": 4})


@pytest.mark.parametrize("made", KINDS.values(), ids=KINDS)
def test_weights_drawn_from_a_seed(made: CodedWords | HashedWords) -> None:
    config = TINY.with_words(made)
    one, other, third = (words(random_model(config, seed)) for seed in (0, 0, 1))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)
    assert 0.01 < float(one.std()) < 0.03  # BERT draws its table with 0.02


def test_an_artifact_holds_it_and_nothing_more(kind: str, tmp_path: Path) -> None:
    model = MAKE[kind]()
    batch = Batch.synthetic(3, 9, V)
    save_artifact(model, tmp_path / "a")
    loaded = load_artifact(tmp_path / "a")
    again = to_dense(loaded).eval()
    for found in (loaded, again):
        assert torch.equal(found(batch).logits, model(batch).logits)
        own = {name: (tensor.dtype, tensor.requires_grad) for name, tensor in model.contents().items()}
        assert {
            name: (tensor.dtype, tensor.requires_grad) for name, tensor in found.contents().items()
        } == own
    assert save_artifact(again, tmp_path / "b") == save_artifact(model, tmp_path / "c")
    stored = {
        n.removeprefix("embedding.word."): t
        for n, t in load_file(tmp_path / "a" / WEIGHTS).items()
        if n.startswith("embedding.word.")
    }
    sizes = {name: tensor.nbytes for name, tensor in stored.items()}
    if kind == "codes":
        packed = (V * CODES.books * 3 + 7) // 8
        assert sizes == {"weight": 4 * 3 * 8 * H, "codes": packed, "codes::count": 8}
        codecs = json.loads((tmp_path / "a" / CONFIG).read_text())["codecs"]
        assert codecs == {"embedding.word.codes": "codes(3)+pack(3)"}
    else:
        assert sizes == {"weight": 4 * 20 * H, "importance": 4 * V * 2}


def test_codes_without_a_codec_come_back_as_well(tmp_path: Path) -> None:
    model = coded()
    model.storage.codecs.clear()
    save_artifact(model, tmp_path / "a")
    assert torch.equal(words(load_artifact(tmp_path / "a")), words(model))


def test_counts(kind: str, tmp_path: Path) -> None:
    model = MAKE[kind]()
    made = V * 3 + 3 * 8 * H if kind == "codes" else 20 * H + V * 2
    others = sum(p.numel() for n, p in model.contents().items() if not n.startswith("embedding.word."))
    config = model.config
    assert config.word_parameters == count(config).word_embedding == made
    assert encoder_parameters(config) == count(config).total == others + made
    assert sum(component_params(model).values()) == others + made
    assert component_params(model)["embedding"] == made + (32 + 2 + 2) * H
    save_artifact(model, tmp_path / "a")
    facts = artifact_facts(tmp_path / "a")
    loaded = load_artifact(tmp_path / "a")
    assert (facts.params, facts.word_embedding_params) == (others + made, made)
    assert stored_params(loaded, tmp_path / "a") == others + made
    bits = V * 3 * 3 + 32 * 3 * 8 * H if kind == "codes" else 32 * made
    assert facts.survey_params - facts.survey_params_without_embeddings == pytest.approx(bits / 32)
    in_file = load_file(tmp_path / "a" / WEIGHTS)
    assert facts.word_embedding_bytes == sum(
        t.nbytes for n, t in in_file.items() if n.startswith("embedding.word.")
    )
    embedding = component_weight_bytes(loaded, tmp_path / "a")["embedding"]
    assert embedding == facts.word_embedding_bytes + 4 * (32 + 2 + 2) * H


def test_a_code_of_zero_is_no_zero_weight(tmp_path: Path) -> None:
    model = coded()
    model.embedding.word.codes.data.zero_()
    save_artifact(model, tmp_path / "a")
    facts = artifact_facts(tmp_path / "a")
    zero_weights = sum(int((p == 0).sum()) for p in model.parameters())
    assert facts.nonzero_params == facts.params - zero_weights


def test_bert_base_s_words_take_what_the_arithmetic_says(tmp_path: Path) -> None:
    """METHODS.md, section 40: V · M · log₂ K bits of codes and M · K · H floats, 1.97 MiB."""
    config = EncoderConfig.bert(1, 768, 12, 4, positions=4)
    table = random_model(config, 0)
    codes = torch.randint(0, 16, (30522, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    save_artifact(surgery.code_words(table, codes, torch.randn(32, 16, 768)), tmp_path / "a")
    facts = artifact_facts(tmp_path / "a")
    assert facts.word_embedding_bytes == 30522 * 32 * 4 // 8 + 32 * 16 * 768 * 4 + 8
    assert round(facts.word_embedding_bytes / 2**20, 2) == 1.97
    survey = facts.survey_params - facts.survey_params_without_embeddings
    assert survey == (30522 * 32 * 4 + 32 * 16 * 768 * 32) / 32


def test_no_operator_is_left_out_of_the_flops(kind: str) -> None:
    b, n = 2, 7
    model, dense = MAKE[kind](), random_model(TINY, 0)
    batch = Batch.synthetic(b, n, V)
    found, reference = count_flops(model, batch), count_flops(dense, batch)
    assert found.uncounted == ()
    own, table = found.components["embedding"], reference.components["embedding"]
    more = own.elementwise_flops - table.elementwise_flops
    if kind == "codes":
        assert (own.macs, table.macs) == (0, 0)
        assert more >= b * n * CODES.books * H  # sums of entries, and the places of the entries
        assert more <= b * n * CODES.books * (H + 2) + 2 * CODES.books
    else:
        assert own.macs == b * n * HASHES.hashes * H
        assert 0 < more <= b * n * HASHES.hashes * 6  # the hashes
    assert {name: work.macs for name, work in found.components.items() if name != "embedding"} == {
        name: work.macs for name, work in reference.components.items() if name != "embedding"
    }


def test_training_moves_the_vectors_and_leaves_the_codes(kind: str) -> None:
    model = MAKE[kind]()
    before = {name: tensor.detach().clone() for name, tensor in model.contents().items()}
    model.requires_grad_(True)  # a method may have frozen it and unfreezes all
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(Batch.synthetic(4, 8, V)).logits.square().sum().backward()
    optimizer.step()
    moved = {n for n, tensor in model.contents().items() if not torch.equal(tensor, before[n])}
    own = {"codes": {"weight"}, "hash": {"weight", "importance"}}[kind]
    assert {n for n in moved if n.startswith("embedding.word.")} == {f"embedding.word.{n}" for n in own}


def test_gradients_are_those_of_the_sum() -> None:
    """d e_w / d B[b] = the sum of p over the token's hashes that fall on b; d e_w / d p_i = B[h_i(w)]."""
    model = hashed()
    word = model.embedding.word
    token = 11
    word(torch.tensor([[token]]))[0, 0, 0].backward()
    expected = torch.zeros(HASHES.buckets)
    places = word.places(torch.tensor([token]))[0].tolist()
    for place, weight in zip(places, word.importance[token].tolist(), strict=True):
        expected[place] += weight
    assert torch.allclose(word.weight.grad[:, 0], expected)
    assert not word.weight.grad[:, 1:].any()
    assert torch.allclose(word.importance.grad[token], word.weight[places, 0])
    assert not word.importance.grad[torch.arange(V) != token].any()


def test_every_cut_works_on_it(kind: str) -> None:
    model = MAKE[kind]()
    cuts = {
        "layers": surgery.keep_layers(model, [1]),
        "heads": surgery.keep_heads(model, [[0], [1]]),
        "columns": surgery.keep_columns(model, [[0, 3], [1]]),
        "ranks": surgery.factorize(model, {"query": 4}),
        "sharing": surgery.share_layers(model, [None, 0]),
    }
    for name, cut in cuts.items():
        assert torch.equal(words(cut), words(model)), name
        assert cut.storage.codecs == model.storage.codecs, name
        assert cut.contents().keys() >= {n for n in model.contents() if n.startswith("embedding.")}, name
    units = [20, 3, 4, 7, 11]
    narrow = surgery.keep_hidden(model, units)
    assert torch.equal(words(narrow), words(model)[:, units])
    assert torch.isfinite(narrow(Batch.synthetic(2, 5, V)).logits).all()


def test_it_is_made_of_a_table_only(kind: str) -> None:
    model = MAKE[kind]()
    made = {"codes": "sums of code-book entries", "hash": "sums of hashed buckets"}[kind]
    for again in (
        lambda: surgery.factorize_embedding(model, 4),
        lambda: surgery.code_words(model, torch.zeros(V, 1), torch.zeros(1, 2, H)),
        lambda: surgery.hash_words(model, torch.zeros(2, H), torch.zeros(V, 1)),
    ):
        with refused(Code.WRONG_SHAPE, made):
            again()


def test_tokens_can_be_taken_out_of_codes_and_not_of_hashes() -> None:
    kept = [9, 2, 30]
    assert torch.equal(words(surgery.keep_vocabulary(coded(), kept)), words(coded())[kept])
    low = surgery.factorize_embedding(random_model(TINY, 0), 5)
    assert torch.equal(words(surgery.keep_vocabulary(low, kept)), words(low)[kept])
    with refused(Code.WRONG_SHAPE, "hash"):
        surgery.keep_vocabulary(hashed(), kept)
    for bad in ([], [1, 1], [V]):
        with refused(Code.OUT_OF_RANGE, "token"):
            surgery.keep_vocabulary(coded(), bad)


def test_transformers_cannot_express_it(kind: str, tmp_path: Path) -> None:
    with pytest.raises(SkylineError, match=r"word embeddings of codes or hashes; export the encoder before"):
        save_checkpoint(MAKE[kind](), tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_what_stores_the_table_finds_the_vectors(kind: str, tmp_path: Path) -> None:
    model = MAKE[kind]()
    model.storage.codecs["embedding.word.weight"] = Codec.parse("int8(channel)")
    save_artifact(model, tmp_path / "a")
    error = (words(load_artifact(tmp_path / "a")) - words(model)).abs().max()
    assert 0 < float(error) < 0.1


@given(st.integers(1, 8), st.lists(st.integers(0, 255), max_size=60), st.booleans())
def test_packed_codes_come_back(width: int, values: list[int], packed: bool) -> None:
    codes = torch.tensor([value % (1 << width) for value in values], dtype=torch.uint8)
    codec = Codec((Codes(width), Pack(width))) if packed else Codec((Codes(width),))
    assert Codec.parse(str(codec)) == codec
    encoded = codec.encode(codes)
    assert encoded.values.nbytes == ((len(values) * width + 7) // 8 if packed else len(values))
    assert torch.equal(codec.decode(encoded, codes.shape).to(torch.uint8), codes)
    assert codec.bits == width


@pytest.mark.parametrize("value", [4.0, 0.5, -1.0, 300.0, float("nan")])
def test_what_is_no_code_is_refused(value: float) -> None:
    with pytest.raises(SkylineError, match="2 bits"):
        Codec.parse("codes(2)").encode(torch.tensor([1.0, value]))
    for width in (0, 9):
        with pytest.raises(SkylineError, match="use 1 to 8 bits"):
            Codec.parse(f"codes({width})")


def test_a_lossy_or_foreign_form_of_codes_is_noticed(tmp_path: Path) -> None:
    model = coded()
    save_artifact(model, tmp_path / "a")
    config = tmp_path / "a" / CONFIG
    config.write_text(config.read_text().replace("pack(3)", "pack(4)"))
    with pytest.raises(SkylineError, match=r"embedding\.word\.codes"):
        load_artifact(tmp_path / "a")


def test_the_table_is_still_a_plain_embedding() -> None:
    word = Encoder(TINY).embedding.word
    assert type(word) is nn.Embedding
    assert prod(word.weight.shape) == TINY.word_parameters
