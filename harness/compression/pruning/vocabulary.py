"""Choose the tokens that a smaller vocabulary keeps, by their counts in the training set."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.common.errors import Code, SkylineError
from harness.compression.encoded_rows import encode_examples

if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.encoder.encoder import Encoder
    from harness.models.tokenizer import Tokenizer

UNUSED = re.compile(r"\[unused\d+\]")
"""Unused entries of BERT's vocabulary."""


def token_counts(model: Encoder, context: Context) -> Tensor:
    """Return the number of occurrences (V,) of each token id in the training examples as `model` reads them: with
    special tokens, and texts cut at the model's length.
    """
    task = context.task
    length = model.length_for(task)
    source = f"the training set of {task.name}"
    rows = encode_examples(context.training_examples(), model, task.kind, length, source)
    return torch.bincount(rows.ids, minlength=model.config.vocab_size)


def indispensable_tokens(tokenizer: Tokenizer) -> list[int]:
    """Return the ids, in rising order, of the special tokens and of all single characters, also those that continue a
    word. With them every text that the tokenizer could split before can still be split.
    """
    data = json.loads(tokenizer.to_json())
    special = {data["model"].get("unk_token"), *(added["content"] for added in data["added_tokens"])}
    prefix = data["model"].get("continuing_subword_prefix") or ""
    return sorted(
        number
        for token, number in tokenizer.fast.get_vocab().items()
        if token in special or len(token.removeprefix(prefix)) == 1
    )


def require_room(tokenizer: Tokenizer | None, wanted: int, asked: str) -> None:
    """Raise SkylineError (`out-of-range`) if a vocabulary of `wanted` tokens is too small for the indispensable ones.
    `asked` is the option's text, for example keep=0.01.
    """
    least = 0 if tokenizer is None else len(indispensable_tokens(tokenizer))
    if least > wanted:
        name = asked.partition("=")[0]
        raise SkylineError(
            f"{asked} is {wanted} tokens, but {least} special tokens and single characters always stay; "
            f"use at least {name}={least}",
            Code.OUT_OF_RANGE,
        )


def tokens_to_keep(tokenizer: Tokenizer, counts: Tensor, size: int) -> list[int]:
    """Return the ids of `size` tokens, in rising order: the indispensable ones and the most frequent by `counts` (V,).
    Among equally frequent tokens, lower ids are preferred, and unused entries come last.

    If there are more than `size` indispensable tokens, exactly these are returned.
    """
    kept = set(indispensable_tokens(tokenizer))
    seen = counts.tolist()
    names = {number: token for token, number in tokenizer.fast.get_vocab().items()}
    others = sorted(
        names.keys() - kept,
        key=lambda number: (-seen[number], bool(UNUSED.fullmatch(names[number])), number),
    )
    return sorted([*kept, *others[: max(0, size - len(kept))]])


def relative_error(student: Encoder, teacher: Encoder, weights: Tensor | None = None) -> float:
    """Return Σ w‖e_student − e_teacher‖² / Σ w‖e_teacher − mean‖² over the word embeddings of all tokens, with token
    weights w (V,), by default equal. The mean is weighted too. Both models must have the same vocabulary.
    """
    with torch.no_grad():
        ids = torch.arange(teacher.config.vocab_size, device=next(teacher.parameters()).device)[None]
        ours, theirs = (model.embedding.word(ids)[0].double() for model in (student, teacher))  # (V, E) each
        share = torch.ones(len(theirs)) if weights is None else weights
        share = (share.double() / share.sum())[:, None].to(theirs.device)  # (V, 1)
        error = (share * (ours - theirs).square()).sum()
        return float(error / (share * (theirs - (share * theirs).sum(0)).square()).sum().clamp_min(1e-30))
