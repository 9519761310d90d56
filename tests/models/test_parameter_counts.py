"""Parameter counts in closed form, against encoders that are built."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.models.config import EncoderConfig, LayerConfig
from harness.models.encoder.encoder import Encoder
from harness.models.parameter_counts import encoder_parameters, head_parameters, layer_parameters

UNEVEN = (
    LayerConfig(heads=3, head_size=4, ffn_size=20),
    LayerConfig(heads=0, head_size=4, ffn_size=7),
    LayerConfig(heads=1, head_size=4, ffn_size=0),
    LayerConfig(heads=0, head_size=4, ffn_size=0),
    LayerConfig(heads=3, head_size=4, ffn_size=20, ranks={"query": 2, "ffn_in": 3}),
)


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"embedding_rank": 5},
        {"pooler": False},
        {"head": {"kind": "span", "outputs": 2}},
        {"head": {"kind": "regression", "outputs": 1}},
        {"head": {"kind": "none"}},
        {"layers": (UNEVEN[0], UNEVEN[0].model_copy(update={"shares_with": 0}))},
    ],
)
def test_the_closed_form_counts_what_is_built(other: dict[str, Any]) -> None:
    given = {"vocab_size": 50, "hidden_size": 12, "positions": 9, "layers": UNEVEN, **other}
    config = EncoderConfig.model_validate(given)
    with torch.device("meta"):
        model = Encoder(config)
    assert encoder_parameters(config) == sum(parameter.numel() for parameter in model.parameters())


def test_bert_base_has_the_published_numbers() -> None:
    config = EncoderConfig.bert(12, 768).with_head("none", 2)
    layer = config.layers[0]
    assert encoder_parameters(config) == 109_482_240
    assert layer_parameters(config, layer) == 7_087_872
    without = layer.model_copy(update={"heads": layer.heads - 1})
    assert head_parameters(config, layer) == 7_087_872 - layer_parameters(config, without) == 196_800
