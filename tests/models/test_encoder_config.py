"""EncoderConfig: JSON round trip, and impossible shapes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.common.errors import Code
from harness.models.config import MATRICES, EncoderConfig, HeadConfig, LayerConfig
from tests.support.one_line_errors import refused

layers = st.builds(
    LayerConfig,
    heads=st.integers(1, 16),
    head_size=st.integers(1, 64),
    ffn_size=st.integers(1, 4096),
    ranks=st.dictionaries(st.sampled_from(MATRICES), st.integers(1, 512)),
)
configs = st.builds(
    EncoderConfig,
    vocab_size=st.integers(1, 50000),
    hidden_size=st.integers(1, 1024),
    embedding_rank=st.none() | st.integers(1, 128),
    layers=st.lists(layers, min_size=1, max_size=4).map(tuple),
    head=st.sampled_from([HeadConfig(), HeadConfig(kind="span"), HeadConfig(kind="regression", outputs=1)]),
    activation=st.sampled_from(["gelu", "gelu_tanh", "relu"]),
    dropout=st.floats(0, 0.9),
    pooler=st.booleans(),
)


@given(configs)
@settings(max_examples=50, deadline=None)
def test_json_round_trip(config: EncoderConfig) -> None:
    assert EncoderConfig.model_validate_json(config.model_dump_json()) == config
    assert config.with_layers(config.layers) == config


def test_bert_follows_the_papers_proportions() -> None:
    config = EncoderConfig.bert(12, 768)
    assert len(config.layers) == 12
    assert {(layer.heads, layer.head_size, layer.ffn_size) for layer in config.layers} == {(12, 64, 3072)}
    assert (config.vocab_size, config.positions, config.segments) == (30522, 512, 2)
    odd = EncoderConfig.bert(4, 312, 12, 1200).layers[0]
    assert (odd.heads, odd.head_size, odd.ffn_size, odd.projection_size) == (12, 26, 1200, 312)


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        EncoderConfig.bert(1, 24).hidden_size = 48


@pytest.mark.parametrize(
    "values",
    [
        {"layers": ()},
        {"hidden_size": 0},
        {"dropout": 1.0},
        {"layer_norm_eps": 0},
        {"activation": "swish"},
        {"widht": 3},
        {"layers": ({"ranks": {"pooler": 3}},)},
        {"layers": ({"shares_with": 0},)},
        {"layers": ({}, {"shares_with": 1})},
        {"layers": ({}, {"shares_with": 0}, {"shares_with": 1})},
        {"layers": ({}, {"shares_with": 0, "heads": 3})},
        {"head": {"kind": "span", "outputs": 3}},
    ],
)
def test_impossible_shapes_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EncoderConfig.model_validate({"layers": ({},), **values})


def test_with_head() -> None:
    config = EncoderConfig.bert(1, 24)
    assert config.with_head("span", 2).head == HeadConfig(kind="span", outputs=2)
    assert config.with_head("none", 2).hidden_size == 24
    with refused(Code.UNKNOWN_NAME, "'clasification'", "'classification'"):
        config.with_head("clasification", 2)
    for kind, outputs in (("span", 3), ("regression", 2), ("classification", 0)):
        with refused(Code.OUT_OF_RANGE, kind, str(outputs)):
            config.with_head(kind, outputs)
