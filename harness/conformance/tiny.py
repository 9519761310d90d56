"""The tiny encoder and the few examples that conformance uses. They are made here, the same on every machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import torch
from tokenizers import BertWordPieceTokenizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from harness.compression.context import Budget
from harness.models.checkpoints import random_model
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.models.tokenizer import Tokenizer
from harness.tasks import Example, Task, load_task

TASK = "toy-sentiment"
CONFIG = EncoderConfig.bert(4, 32, heads=4, vocab_size=2048, positions=64)
BUDGET = Budget(epochs=1, batch_size=16, examples=48, learning_rate=1e-3, precision="float32")
"""48 examples in batches of 16: three steps."""
DEV_EXAMPLES = 64

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHARACTERS = "abcdefghijklmnopqrstuvwxyz.,"
FREQUENT = 50
"""Words that occur this often in the training set are tokens; others are split into characters."""
DEVIATION = CONFIG.hidden_size**-0.5
"""The standard deviation of the weights. With BERT's 0.02, logits would hardly depend on the input."""


@cache
def vocabulary() -> dict[str, int]:
    """Return a WordPiece vocabulary of frequent words of the toy task and of characters, filled up with unused tokens
    as BERT's is.
    """
    splitter = BertPreTokenizer()
    counts = Counter(
        word
        for example in load_task(TASK).train()
        for word, _ in splitter.pre_tokenize_str(example.text.lower())
    )
    words = sorted(word for word, count in counts.items() if count >= FREQUENT and len(word) > 1)
    tokens = [*SPECIAL, *CHARACTERS, *(f"##{c}" for c in CHARACTERS), *words]
    tokens += [f"[unused{number}]" for number in range(CONFIG.vocab_size - len(tokens))]
    return {token: number for number, token in enumerate(tokens)}


def tiny_tokenizer() -> Tokenizer:
    """Return a WordPiece tokenizer with `vocabulary` that lower-cases texts."""
    return Tokenizer(BertWordPieceTokenizer(vocabulary())._tokenizer)


def tiny_encoder(seed: int = 0) -> Encoder:
    """Return an untrained encoder with four layers, 32 units and two classes. Its biases are not zero, so that a method
    which drops one is seen.
    """
    model = random_model(CONFIG, seed, tiny_tokenizer())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, DEVIATION, generator=generator)
            elif name.endswith(".bias"):
                parameter.normal_(0, 0.1, generator=generator)
    return model


@cache
def tiny_task() -> Task:
    """Return the toy task with a dev split of 64 examples."""
    whole = load_task(TASK)

    def load(split: str) -> tuple[Example, ...]:
        return tuple(whole.split(split)[: None if split == "train" else DEV_EXAMPLES])

    return replace(whole, loader=load)
