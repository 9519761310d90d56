"""What a method's `check` refuses of an encoder's shape, in the words that all of them use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.common.errors import Code, SkylineError
from harness.models.config import EncoderConfig, Matrix

if TYPE_CHECKING:
    pass


def divisors(count: int) -> list[int]:
    """The numbers that divide `count`, `count` among them."""
    return [n for n in range(1, count + 1) if count % n == 0]


def check_length(length: int, positions: int, model: str = "the model") -> None:
    """Raise SkylineError if sequences of `length` tokens are longer than a model's positions."""
    if length > positions:
        raise SkylineError(
            f"a sequence of {length} tokens is longer than {model}'s {positions} positions; use at most {positions}",
            Code.TOO_LONG,
        )


def refuse_shared(config: EncoderConfig, what: str) -> None:
    """Raise SkylineError where layers share weights. `what` (a plural) is what would be cut."""
    if any(layer.shares_with is not None for layer in config.layers):
        raise SkylineError(f"{what} of layers that share weights cannot be cut; cut them before sharing")


def refuse_factorized(config: EncoderConfig, matrices: Iterable[Matrix], what: str) -> None:
    """Raise SkylineError where one of `matrices` is factorized in a layer. `what` (a plural) is what would be
    cut.
    """
    matrices = tuple(matrices)
    for index, layer in enumerate(config.layers):
        if any(matrix in layer.ranks for matrix in matrices):
            raise SkylineError(
                f"{what} of layer {index} cannot be cut: its matrices are factorized; cut first, factorize then"
            )


def refuse_other_words(config: EncoderConfig) -> None:
    """Raise SkylineError where the word embeddings are no table with a row for each token."""
    made = "factorized" if config.embedding_rank is not None else None
    if config.words is not None:
        made = {"codes": "sums of code-book entries", "hash": "sums of hashed buckets"}[config.words.kind]
    if made is not None:
        raise SkylineError(f"the word embeddings are {made} already; leave one of the methods out")


def refuse_hashed_words(config: EncoderConfig) -> None:
    """Raise SkylineError where a token's id decides its embedding, so that tokens cannot be numbered anew."""
    if config.words is not None and config.words.kind == "hash":
        raise SkylineError(
            "hashes of a token's id choose its buckets, so no token can be taken out; prune the vocabulary first, "
            "hash then"
        )


def refuse_other_attention(config: EncoderConfig) -> None:
    """Raise SkylineError where a layer's attention is not from each token to every other."""
    for index, layer in enumerate(config.layers):
        if layer.attention is not None:
            raise SkylineError(
                f"attention of layer {index} is of the kind '{layer.attention.kind}' already; leave one of them out"
            )


def refuse_eliminated(config: EncoderConfig, what: str) -> None:
    """Raise SkylineError where word-vectors are eliminated. `what` is what cannot be done then, and `what` to do."""
    if any(layer.kept is not None for layer in config.layers):
        raise SkylineError(f"word-vectors are eliminated between its layers, {what}")


def refuse_unlike(config: EncoderConfig, teacher: EncoderConfig, instead: str, inner: bool = False) -> None:
    """Raise SkylineError where hidden states and attention maps cannot be compared layer by layer, or with `inner`
    what is between them neither. `instead` says what to do.
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
            "its layers have not the shape of the teacher's any more, so what they compute cannot be compared; "
            f"{instead}"
        )


def refuse_wide_ramps(config: EncoderConfig) -> None:
    """Raise SkylineError where an exit ramp's own width follows from the hidden size, so that no hidden unit can go."""
    if any(layer.exit == "student" for layer in config.layers):
        raise SkylineError(
            "hidden units cannot be cut under exit ramps of FastBERT's shape, whose width follows from them; "
            "cut first, add the ramps then"
        )
