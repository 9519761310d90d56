"""Which tokens a task's training set has, and which a WordPiece tokenizer cannot do without."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.common.errors import SkylineError
from harness.compression.encoded_rows import encode_examples

if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.encoder.encoder import Encoder
    from harness.models.tokenizer import Tokenizer

UNUSED = re.compile(r"\[unused\d+\]")
"""Places that BERT's vocabulary keeps free."""


def token_counts(model: Encoder, context: Context) -> Tensor:
    """How often each token id (V,) stands in the training examples, as `model` reads them: special tokens and texts
    that are cut included.
    """
    task = context.task
    length = model.length_for(task)
    source = f"the training set of {task.name}"
    rows = encode_examples(context.training_examples(), model, task.kind, length, source)
    return torch.bincount(rows.ids, minlength=model.config.vocab_size)


def indispensable_tokens(tokenizer: Tokenizer) -> list[int]:
    """The ids of the special tokens, of all single characters and of those that continue a word, in order: with them
    every text can still be read that could be before.
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
    """Raise SkylineError where `wanted` tokens are less than those that always stay. `asked` is the option's text."""
    least = 0 if tokenizer is None else len(indispensable_tokens(tokenizer))
    if least > wanted:
        name = asked.partition("=")[0]
        raise SkylineError(
            f"{asked} is {wanted} tokens, but {least} special tokens and single characters always stay; "
            f"use at least {name}={least}"
        )


def tokens_to_keep(tokenizer: Tokenizer, counts: Tensor, size: int) -> list[int]:
    """The ids of `size` tokens, in order: the indispensable ones, then the most frequent by `counts` (V,). Among those
    seen equally often the lower ids come first, and places that the vocabulary keeps free last.

    Where `size` is less than the indispensable ones, these are what is returned.
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
    """The squared error of the student's word embeddings against the teacher's, as a share of the teacher's squared
    distance from their mean; each token's counted by `weights` (V,) where given. Both have the same vocabulary.
    """
    with torch.no_grad():
        ids = torch.arange(teacher.config.vocab_size, device=next(teacher.parameters()).device)[None]
        ours, theirs = (model.embedding.word(ids)[0].double() for model in (student, teacher))
        share = torch.ones(len(theirs)) if weights is None else weights
        share = (share.double() / share.sum())[:, None].to(theirs.device)
        error = (share * (ours - theirs).square()).sum()
        return float(error / (share * (theirs - (share * theirs).sum(0)).square()).sum().clamp_min(1e-30))
