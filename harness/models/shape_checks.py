"""Checks of an encoder's shape that several methods share: each raises SkylineError if a method cannot work on it."""

from __future__ import annotations

from collections.abc import Iterable

from harness.common.errors import Code, SkylineError
from harness.models.config import EncoderConfig, Matrix


def divisors(count: int) -> list[int]:
    """Return the divisors of `count`, including `count` itself."""
    return [n for n in range(1, count + 1) if count % n == 0]


def check_length(length: int, positions: int, model: str = "the model") -> None:
    """Raise SkylineError if sequences of `length` tokens are longer than a model's positions."""
    if length > positions:
        raise SkylineError(
            f"a sequence of {length} tokens is longer than {model}'s {positions} positions; use at most {positions}",
            Code.TOO_LONG,
        )


def refuse_shared(config: EncoderConfig, what: str) -> None:
    """Raise SkylineError if layers share weights. `what` (a plural) names the units that would be cut."""
    if any(layer.shares_with is not None for layer in config.layers):
        raise SkylineError(
            f"{what} of layers that share weights cannot be cut; cut them before sharing", Code.WRONG_SHAPE
        )


def refuse_factorized(config: EncoderConfig, matrices: Iterable[Matrix], what: str) -> None:
    """Raise SkylineError if a layer's matrix among `matrices` is factorized. `what` (a plural) names the units that
    would be cut.
    """
    matrices = tuple(matrices)
    for index, layer in enumerate(config.layers):
        if any(matrix in layer.ranks for matrix in matrices):
            raise SkylineError(
                f"{what} of layer {index} cannot be cut: its matrices are factorized; cut before factorizing",
                Code.WRONG_SHAPE,
            )


def refuse_other_words(config: EncoderConfig) -> None:
    """Raise SkylineError if the word embeddings are not a table with one row per token."""
    made = "factorized" if config.embedding_rank is not None else None
    if config.words is not None:
        made = {"codes": "sums of code-book entries", "hash": "sums of hashed buckets"}[config.words.kind]
    if made is not None:
        raise SkylineError(
            f"the word embeddings are {made} already; leave one of the methods out", Code.WRONG_SHAPE
        )


def refuse_hashed_words(config: EncoderConfig) -> None:
    """Raise SkylineError if word embeddings are hashed: they depend on the tokens' ids, so ids cannot change."""
    if config.words is not None and config.words.kind == "hash":
        raise SkylineError(
            "hashes of a token's id choose its buckets, so none can be removed; prune the vocabulary before hashing",
            Code.WRONG_SHAPE,
        )


def refuse_other_attention(config: EncoderConfig) -> None:
    """Raise SkylineError if a layer does not have full attention."""
    for index, layer in enumerate(config.layers):
        if layer.attention is not None:
            raise SkylineError(
                f"attention of layer {index} is of the kind '{layer.attention.kind}' already; leave one of the methods "
                "out",
                Code.WRONG_SHAPE,
            )


def refuse_eliminated(config: EncoderConfig, what: str) -> None:
    """Raise SkylineError if layers eliminate word-vectors. `what` ends the message: the consequence and what to do."""
    if any(layer.kept is not None for layer in config.layers):
        raise SkylineError(f"word-vectors are eliminated between its layers, {what}", Code.WRONG_SHAPE)


def refuse_unlike(config: EncoderConfig, teacher: EncoderConfig, instead: str, inner: bool = False) -> None:
    """Raise SkylineError if hidden states and attention maps cannot be compared with the teacher's layer by layer.

    With `inner`, head size and FFN size must be equal too. `instead` says what to do.
    """
    ours, theirs = (
        [
            (each.hidden_size, layer.heads, inner and (layer.head_size, layer.ffn_size))
            for layer in each.layers
        ]
        for each in (config, teacher)
    )
    if ours != theirs:
        raise SkylineError(
            f"its layers no longer have the teacher's shape, so their states cannot be compared; {instead}",
            Code.WRONG_SHAPE,
        )


def refuse_wide_ramps(config: EncoderConfig) -> None:
    """Raise SkylineError if an exit ramp's width depends on the hidden size."""
    if any(layer.exit == "student" for layer in config.layers):
        raise SkylineError(
            "hidden units cannot be cut under exit ramps whose width depends on the hidden size, as FastBERT's does; "
            "cut before adding the ramps",
            Code.WRONG_SHAPE,
        )
