"""Sizes of an artifact, counted by hand, and the survey's convention at BERT-base's size."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from isal import igzip

from harness.models.artifacts import CONFIG, WEIGHTS, save_artifact
from harness.models.codecs import Codec
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.profiling.costs.size import artifact_facts
from harness.records.schema import ArtifactFacts
from tests.support.encoder_models import random_weights

# One layer of 8 with two heads and an FFN of 12; 50 words, 16 positions, 2 segments, 3 labels.
SMALL = EncoderConfig.bert(1, 8, 2, 12, vocab_size=50, positions=16).with_head("classification", 3)
WORDS = 50 * 8
EMBEDDINGS = WORDS + 16 * 8 + 2 * 8 + 2 * 8
LAYER = 4 * (8 * 8 + 8) + (8 * 12 + 12) + (12 * 8 + 8) + 4 * 8
POOLER, CLASSIFIER = 8 * 8 + 8, 8 * 3 + 3
PARAMS = EMBEDDINGS + LAYER + POOLER + CLASSIFIER
ENCODER = PARAMS - CLASSIFIER


def facts(model: Encoder, folder: Path, **codecs: str) -> ArtifactFacts:
    """Store `model` by `codecs` and measure it. `codecs` are by parameter, with __ for each dot of its name."""
    model.storage.codecs = {name.replace("__", "."): Codec.parse(codec) for name, codec in codecs.items()}
    save_artifact(model, folder)
    return artifact_facts(folder)


def payload(folder: Path) -> int:
    """Return the bytes of weights.safetensors without its header."""
    content = (folder / WEIGHTS).read_bytes()
    return len(content) - 8 - int.from_bytes(content[:8], "little")


@pytest.fixture
def model() -> Encoder:
    return random_weights(SMALL, 0)


def test_dense(model: Encoder, tmp_path: Path) -> None:
    found = facts(model, tmp_path / "a")
    assert PARAMS == 560 + 532 + 72 + 27
    assert (found.params, found.nonzero_params, found.word_embedding_params) == (PARAMS, PARAMS, WORDS)
    assert found.survey_params == ENCODER
    assert found.survey_params_without_embeddings == ENCODER - WORDS
    assert payload(tmp_path / "a") == 4 * PARAMS
    assert found.word_embedding_bytes == 4 * WORDS
    files = {name: (tmp_path / "a" / name).stat().st_size for name in (CONFIG, WEIGHTS)}
    assert (found.config_bytes, found.weight_bytes) == (files[CONFIG], files[WEIGHTS])
    assert found.disk_bytes == sum(files.values())
    assert found.bits_per_weight == 8 * files[WEIGHTS] / PARAMS > 32


def test_zeros_in_a_dense_matrix_save_nothing(model: Encoder, tmp_path: Path) -> None:
    model.layers[0].ffn.into.weight.data[:, :6] = 0
    found = facts(model, tmp_path / "a")
    assert (found.params, found.nonzero_params) == (PARAMS, PARAMS - 12 * 6)
    assert found.survey_params == ENCODER
    assert payload(tmp_path / "a") == 4 * PARAMS


def test_sparse(model: Encoder, tmp_path: Path) -> None:
    model.layers[0].ffn.into.weight.data[:, :6] = 0
    model.embedding.word.weight.data[:20] = 0
    kept_words = WORDS - 20 * 8
    found = facts(
        model, tmp_path / "a", layers__0__ffn__into__weight="bitmask", embedding__word__weight="bitmask"
    )
    assert found.params == PARAMS
    assert found.nonzero_params == PARAMS - 12 * 6 - 20 * 8
    # The masks take 12 and 50 bytes of the file; the survey does not count them.
    assert found.survey_params == ENCODER - 12 * 6 - 20 * 8
    assert found.survey_params_without_embeddings == ENCODER - WORDS - 12 * 6
    assert found.word_embedding_bytes == 4 * kept_words + 50
    assert payload(tmp_path / "a") == 4 * (PARAMS - 12 * 6 - 20 * 8) + 12 + 50


def test_int8(model: Encoder, tmp_path: Path) -> None:
    found = facts(
        model,
        tmp_path / "a",
        layers__0__ffn__into__weight="int8(channel)",
        embedding__word__weight="int8(tensor)",
    )
    assert found.params == PARAMS
    # The survey counts a quarter of these weights, and no scales; on disk a scale takes four bytes.
    assert found.survey_params == ENCODER - (12 * 8 + WORDS) * 3 / 4
    assert found.survey_params_without_embeddings == ENCODER - WORDS - 12 * 8 * 3 / 4
    assert found.word_embedding_bytes == WORDS + 4
    assert payload(tmp_path / "a") == 4 * PARAMS - 3 * (12 * 8 + WORDS) + 4 * 12 + 4


def test_sparse_int8(model: Encoder, tmp_path: Path) -> None:
    into = model.layers[0].ffn.into.weight.data
    into.fill_(1.0)
    into[:, :6] = 0
    found = facts(model, tmp_path / "a", layers__0__ffn__into__weight="int8(channel)+bitmask")
    assert found.nonzero_params == PARAMS - 12 * 6
    assert found.survey_params == ENCODER - 12 * 8 + 12 * 2 / 4
    # 24 values of one byte, a mask of 96 bits, 12 scales of four bytes.
    assert payload(tmp_path / "a") == 4 * (PARAMS - 12 * 8) + 24 + 12 + 48


def test_half_precision_and_the_classifier(model: Encoder, tmp_path: Path) -> None:
    """The survey never counts the task's classifier, in any codec."""
    names = {name.replace(".", "__"): "cast(bfloat16)" for name, _ in model.named_parameters()}
    found = facts(model, tmp_path / "a", **names)
    assert found.survey_params == ENCODER / 2
    assert payload(tmp_path / "a") == 2 * PARAMS


def test_shared_weights_count_once(tmp_path: Path) -> None:
    twice = SMALL.with_layers((SMALL.layers[0], SMALL.layers[0].model_copy(update={"shares_with": 0})))
    found = facts(random_weights(twice, 0), tmp_path / "a")
    assert (found.params, found.survey_params) == (PARAMS, ENCODER)
    assert payload(tmp_path / "a") == 4 * PARAMS


def test_gzip_is_as_dense_as_the_modules(model: Encoder, tmp_path: Path) -> None:
    model.embedding.word.weight.data.zero_()
    found = facts(model, tmp_path / "a")
    files = [(tmp_path / "a" / name).read_bytes() for name in (CONFIG, WEIGHTS)]
    assert found.gzip_bytes == pytest.approx(sum(len(gzip.compress(content)) for content in files), rel=0.05)
    assert found.gzip_bytes < found.disk_bytes


def test_gzip_of_a_file_of_many_blocks(tmp_path: Path) -> None:
    """The file is packed in blocks of one mebibyte. This may change the size only by the few bits by which the fast
    packer's output differs between processors.
    """
    config = SMALL.model_copy(update={"vocab_size": 50_000})
    found = facts(random_weights(config, 0), tmp_path / "a", embedding__word__weight="int8(tensor)+bitmask")
    assert found.weight_bytes > 3e5
    dense = facts(random_weights(config, 0), tmp_path / "b")
    assert dense.weight_bytes > 1 << 20
    for folder, one in (("a", found), ("b", dense)):
        files = [(tmp_path / folder / name).read_bytes() for name in (CONFIG, WEIGHTS)]
        whole = sum(len(igzip.compress(content, 3, mtime=0)) for content in files)
        assert one.gzip_bytes == pytest.approx(whole, abs=8)


def test_facts_do_not_depend_on_the_folder(model: Encoder, tmp_path: Path) -> None:
    one, other = facts(model, tmp_path / "a"), facts(model, tmp_path / "another-name")
    assert one == other
    assert json.loads(one.model_dump_json())["params"] == PARAMS


def on_meta(config: EncoderConfig) -> Encoder:
    with torch.device("meta"):
        return Encoder(config)


def test_the_surveys_size_columns() -> None:
    """Rows of Ganesh et al. 2021, Table 1, that are recomputed by counting alone (METHODS, sections 0.1, 0.2, 0.5)."""

    def count(layers: int, hidden: int = 768, **other: object) -> tuple[int, int]:
        model = on_meta(EncoderConfig.bert(layers, hidden, **other).with_head("none", 1))
        return sum(p.numel() for p in model.parameters()), model.embedding.word.weight.numel()

    total, words = count(12)
    assert (total, words) == (109_482_240, 23_440_896)
    assert round(100 * words / total, 2) == 21.41
    assert count(12, pooler=False)[0] == 108_891_648

    def columns(params: int, word: int) -> tuple[float, float]:
        return 100 * params / total, 100 * (params - word) / (total - words)

    with_words, without_words = columns(*count(6))
    assert (round(with_words, 2), round(without_words, 1)) == (61.16, 50.6)
    with_words, without_words = columns(*count(6, pooler=False))
    assert (round(with_words, 2), round(without_words, 1)) == (60.62, 49.9)
    # TinyBERT's shape: 4 layers of 312 with 12 heads and an FFN of 1,200.
    assert round(count(4, 312, heads=12, ffn=1200)[0] / 1e6, 2) == 14.35


@pytest.mark.slow
def test_bert_base_has_the_surveys_hundred_percent(tmp_path: Path) -> None:
    """`survey_params` of BERT-base's artifact is 109,482,240: all weights but the classifier's."""
    model = on_meta(EncoderConfig.bert(12, 768)).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    found = facts(model, tmp_path / "a")
    assert found.survey_params == 109_482_240
    assert found.survey_params_without_embeddings == 86_041_344
    assert found.params == 109_482_240 + 2 * 768 + 2
    assert found.nonzero_params == 0
    assert 4 * found.params < found.weight_bytes < 4.001 * found.params
