"""Which layers a student begins with, which it is compared with, and what cannot be compared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.common.errors import Code
from harness.compression.distillation.layer_maps import (
    map_layers,
    refuse_other_maps,
    refuse_other_states,
    refuse_other_tokens_kept,
)
from harness.models.attention_kinds import LocalAttention
from harness.models.config import EncoderConfig, LayerConfig
from tests.support.one_line_errors import refused


@pytest.mark.parametrize(
    ("student", "teacher", "choice", "layers"),
    [
        (6, 12, "skip", [1, 3, 5, 7, 9, 11]),  # the released code of Sun et al., and the last with the last
        (6, 12, "last", [6, 7, 8, 9, 10, 11]),
        (3, 12, "skip", [3, 7, 11]),
        (4, 12, "skip", [2, 5, 8, 11]),  # Jiao et al.: layers 3, 6, 9, 12, counted from 1
        (1, 4, "skip", [3]),
        (4, 4, "skip", [0, 1, 2, 3]),
        (5, 12, "last", [7, 8, 9, 10, 11]),
    ],
)
def test_the_layers_compared(student: int, teacher: int, choice: Any, layers: list[int]) -> None:
    assert map_layers(student, teacher, choice) == layers


@given(st.integers(1, 40), st.integers(1, 40))
def test_maps_rise_and_end_with_the_last_layer(student: int, factor: int) -> None:
    for choice, teacher in (("skip", student * factor), ("last", student + factor)):
        layers = map_layers(student, teacher, choice)  # type: ignore[arg-type]
        assert len(layers) == student
        assert layers == sorted(set(layers))
        assert layers[-1] == teacher - 1
    steps = map_layers(student, student * factor, "skip")
    assert {after - before for before, after in zip([-1, *steps], steps, strict=False)} == {factor}


def test_maps_that_do_not_fit() -> None:
    with refused(Code.OUT_OF_RANGE, "layers=4", "1, 2, 3, 6"):
        map_layers(4, 6, "skip")
    for choice in ("skip", "last"):
        with refused(Code.OUT_OF_RANGE, "layers=7", "6"):
            map_layers(7, 6, choice)  # type: ignore[arg-type]


CONFIG = EncoderConfig.bert(2, 32, heads=4, vocab_size=100)


def test_states_that_cannot_be_compared() -> None:
    refuse_other_states(CONFIG, CONFIG)
    narrower = EncoderConfig.bert(2, 16, heads=4, vocab_size=100)
    refuse_other_tokens_kept(narrower, CONFIG)
    with refused(Code.WRONG_SHAPE, "16", "32"):
        refuse_other_states(narrower, CONFIG)
    with refused(Code.WRONG_ORDER, "hidden states"):
        refuse_other_states(EncoderConfig.bert(2, 32, heads=4, vocab_size=90), CONFIG)
    left = tuple(layer.model_copy(update={"kept": 8}) for layer in CONFIG.layers)
    with refused(Code.WRONG_SHAPE, "word-vectors"):
        refuse_other_tokens_kept(CONFIG.with_layers(left), CONFIG)


def test_maps_that_cannot_be_compared() -> None:
    layer = LayerConfig(heads=4, head_size=8, ffn_size=64)
    refuse_other_maps(layer, LayerConfig(heads=4, head_size=16, ffn_size=9), 0, 3)
    with refused(Code.WRONG_SHAPE, "layer 1", "3 heads", "layer 5 4"):
        refuse_other_maps(layer.model_copy(update={"heads": 3}), layer, 1, 5)
    nothing = layer.model_copy(update={"heads": 0})
    with refused(Code.WRONG_SHAPE, "0 heads"):
        refuse_other_maps(nothing, nothing, 0, 0)
    with refused(Code.WRONG_SHAPE, "attends"):
        refuse_other_maps(layer.model_copy(update={"attention": LocalAttention()}), layer, 0, 0)
