"""Small models of every kind that runtimes run, and batches for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from harness.models.artifacts import save_artifact
from harness.models.attention_kinds import (
    AttentionKind,
    LinformerAttention,
    LocalAttention,
    SegmentAttention,
    SpanAttention,
    TopKAttention,
)
from harness.models.batch import Batch
from harness.models.codecs import Codec, Int8
from harness.models.config import CodedWords, EncoderConfig, HashedWords, HeadConfig, LayerConfig
from harness.models.factory import make_model
from harness.models.model import Model
from harness.models.students.bottleneck_config import BottleneckConfig
from harness.models.students.config import BagConfig, ConvolutionalConfig, RecurrentConfig

POSITIONS, VOCABULARY = 32, 50
LAYER = LayerConfig(heads=2, head_size=12, ffn_size=40)


def encoder(*layers: LayerConfig, **other: object) -> EncoderConfig:
    shape = {"vocab_size": VOCABULARY, "hidden_size": 24, "positions": POSITIONS, "layers": layers, **other}
    return EncoderConfig.model_validate(shape)


def attending(kind: AttentionKind) -> EncoderConfig:
    return encoder(LAYER.model_copy(update={"attention": kind}), LAYER)


def keeping(*counts: int) -> EncoderConfig:
    return encoder(*(LAYER.model_copy(update={"kept": count}) for count in counts), LAYER)


STUDENT = {"vocab_size": VOCABULARY, "embedding_size": 8, "classifier": 6, "positions": POSITIONS}

PLAIN = encoder(LAYER, LAYER)
CONFIGS = {
    "plain": PLAIN,
    "factorized": encoder(
        LAYER.model_copy(update={"ranks": {"query": 5, "attention_out": 4, "ffn_in": 6, "ffn_out": 4}})
    ),
    "shared": encoder(LAYER, LAYER.model_copy(update={"shares_with": 0})),
    "pruned": encoder(
        LayerConfig(heads=1, head_size=12, ffn_size=7),
        LayerConfig(heads=0, head_size=12, ffn_size=40),
        LayerConfig(heads=2, head_size=12, ffn_size=0),
    ),
    "coded words": encoder(LAYER, words=CodedWords(books=4, entries=8)),
    "hashed words": encoder(LAYER, words=HashedWords(buckets=16, hashes=2)),
    "hashed weights": encoder(LAYER, words=HashedWords(buckets=16, hashes=3, rows=7)),
    "factorized words": encoder(LAYER, embedding_rank=6),
    "own positions": encoder(LAYER, segment_positions="own"),
    "spans": encoder(LAYER, head=HeadConfig(kind="span", outputs=2)),
    "scores": encoder(LAYER, head=HeadConfig(kind="regression", outputs=1), activation="gelu_tanh"),
    "local attention": attending(LocalAttention(window=2)),
    "top-k attention": attending(TopKAttention(k=3)),
    "linformer": attending(LinformerAttention(projected=9, length=POSITIONS)),
    "segments apart": attending(SegmentAttention()),
    "soft windows": attending(SpanAttention(ramp=2, spans=(0.0, 1.5))),
    "eliminated words": keeping(9, 4),
    "mean of tokens": encoder(LAYER, LAYER, pooling="mean"),
    "mean of words left": keeping(9, 4).model_copy(update={"pooling": "mean"}),
    "mobilebert": BottleneckConfig(
        vocab_size=VOCABULARY,
        embedding_size=8,
        hidden_size=24,
        body_size=12,
        heads=2,
        ffn_size=16,
        ffn_count=2,
        layer_count=2,
        positions=POSITIONS,
    ),
    "bag": BagConfig.model_validate(STUDENT),
    "bag of pairs": BagConfig.model_validate({**STUDENT, "paired": True}),
    "lstm": RecurrentConfig.model_validate({**STUDENT, "hidden": 6, "layer_count": 2}),
    "lstm of pairs": RecurrentConfig.model_validate(
        {**STUDENT, "hidden": 6, "paired": True, "pooling": "max"}
    ),
    "rnn": RecurrentConfig.model_validate(
        {**STUDENT, "hidden": 6, "cell": "rnn", "bidirectional": False, "pooling": "attention"}
    ),
    "convolutions": ConvolutionalConfig.model_validate({**STUDENT, "channels": 6, "cells": 2}),
}
FIXED = ("local attention", "linformer", "soft windows")
"""Models whose work depends on the length, so that a graph is valid for one length only."""


def drawn(config: object, seed: int = 0) -> Model:
    """Make a model with random weights, in which no parameter is 0 or 1, so that a missing one shows."""
    generator = torch.Generator().manual_seed(seed)
    model = make_model(config).initialize(generator)  # type: ignore[arg-type]
    for parameter in model.parameters():
        parameter.data.add_(torch.empty_like(parameter).normal_(0, 0.15, generator=generator))
    return model.eval()


def batch_of(lengths: Sequence[int], seed: int = 0) -> Batch:
    """Draw pairs (b, n) of these lengths, padded to the longest."""
    longest = max(lengths)
    ids = torch.randint(1, VOCABULARY, (len(lengths), longest), generator=torch.Generator().manual_seed(seed))
    own, places = torch.tensor(lengths)[:, None], torch.arange(longest)
    mask = (places < own).long()
    return Batch(ids * mask, mask, (places >= own // 2).long() * mask)


BATCHES = [batch_of([9, 4, 17]), batch_of([5]), batch_of([POSITIONS, 2]), batch_of([20, 20])]
"""Batches of several rows and of one, with and without padding, and with all positions."""


def quantized(model: Model, per: str = "channel") -> Model:
    """Mark a model, in place, to be stored and executed in int8, except for its classifier."""
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and path != "head.classifier":
            model.storage.codecs[f"{path}.weight"] = Codec((Int8(per),))
            model.storage.kernels[path] = "int8"
    return model


def saved(model: Model, folder: Path) -> Path:
    save_artifact(model, folder)
    return folder
