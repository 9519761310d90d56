"""Sentences, small encoders and batches that the tests of this folder share. Every sentence is made up here."""

from __future__ import annotations

import random

import torch

from harness.models.batch import Batch
from harness.models.checkpoints import random_model
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.models.tokenizer import Tokenizer

WORDS = [
    *(
        "the",
        "a",
        "one",
        "some",
        "river",
        "bridge",
        "clock",
        "garden",
        "letter",
        "engine",
        "lantern",
        "market",
    ),
    *(
        "sailor",
        "teacher",
        "winter",
        "slow",
        "bright",
        "narrow",
        "honest",
        "broken",
        "quiet",
        "was",
        "seemed",
    ),
    *("became", "stays", "over", "under", "beside", "without", "because", "although"),
]
LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'()-"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, *dict.fromkeys([*LETTERS, *WORDS]), *(f"##{letter}" for letter in LETTERS)]

TINY = EncoderConfig.bert(2, 24, heads=2, ffn=40, vocab_size=len(VOCABULARY), positions=32)

SUBJECTS = ("The old sailor", "A café by the river", "Every second clock", "My neighbour's engine", "Nobody")
VERBS = ("repairs", "misremembers", "has never understood", "is said to have painted", "outlives")
OBJECTS = (
    "the narrow bridge",
    "42 letters",
    "a quietly ticking lantern",
    "winter itself",
    "the market (twice)",
)
ENDINGS = (".", "!", ", although it was raining", "; still, the garden stayed bright", " - or so they say...")


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of very different lengths, with accents, digits, punctuation and words that split into pieces."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        clauses = [
            f"{draw.choice(SUBJECTS)} {draw.choice(VERBS)} {draw.choice(OBJECTS)}{draw.choice(ENDINGS)}"
            for _ in range(draw.choice((1, 1, 1, 1, 1, 1, 1, 2)))
        ]
        made.append(" ".join(clauses) if draw.random() > 0.1 else draw.choice(WORDS))
    return made


def random_weights(config: EncoderConfig, seed: int, tokenizer: Tokenizer | None = None) -> Encoder:
    """An encoder in which no parameter has a value that would hide its absence: biases and norms are drawn too."""
    model = random_model(config, seed, tokenizer)
    generator = torch.Generator().manual_seed(seed + 1)
    for parameter in model.parameters():
        parameter.data.add_(torch.empty_like(parameter).normal_(0, 0.15, generator=generator))
    return model


def random_batch(lengths: list[int], vocab_size: int, seed: int = 0, pairs: bool = False) -> Batch:
    """Rows of random ids (never 0), padded with random ids too: what stands under the padding must not matter."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    ids = torch.randint(1, vocab_size, shape, generator=generator)
    places = torch.arange(shape[1]).expand(shape)
    mask = (places < torch.tensor(lengths)[:, None]).long()
    segments = ((places >= shape[1] // 2) & pairs).long() * mask
    return Batch(ids, mask, segments)


def logits(model: Encoder, batch: Batch) -> torch.Tensor:
    """The logits, without gradient."""
    with torch.inference_mode():
        return model(batch).logits


def equal_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether both hold the same tensors by the same names."""
    state, others = one.state_dict(), other.state_dict()
    return state.keys() == others.keys() and all(torch.equal(state[name], others[name]) for name in state)
