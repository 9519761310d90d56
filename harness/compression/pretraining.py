"""Masked-language modelling (Devlin et al. 2019, section 3.1) on a task's training texts, for methods that compress
during pre-training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.common.errors import Code, SkylineError
from harness.compression.method import Method
from harness.compression.training import train_round
from harness.models.batch import Batch
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.mlm_head import MaskedLanguageModelHead

if TYPE_CHECKING:
    from harness.compression.context import Context, Step
    from harness.models.tokenizer import Tokenizer

SHARE = 0.15
"""The share of a sequence's tokens that are to be predicted."""
MASKED, RANDOM = 0.8, 0.1
"""The shares of these tokens that become [MASK] and a random token; the others stay as they are."""
IGNORED = -100
"""The target of tokens that are not to be predicted."""
HEAD = "masked_language_model"
"""The head's name in the student during pre-training."""
HEAD_LEARNING_RATE = 1e-3
"""The head's peak learning rate. It is higher than an encoder's, because the head starts from random weights."""


def mask_tokens(
    batch: Batch, special: Tensor, mask_id: int, vocab_size: int, generator: torch.Generator
) -> tuple[Batch, Tensor]:
    """Hide round(0.15 · m) of the m tokens of each sequence, at least one. Return the new batch and the targets (b, n).

    `special` (k,) holds ids that are never hidden; neither they nor padding count in m. Targets are the true ids of
    hidden tokens and `IGNORED` elsewhere. `generator` is on the processor.
    """
    ids = batch.input_ids.cpu()  # (b, n), as all tensors below but `counts`
    free = batch.attention_mask.cpu().bool() & ~torch.isin(ids, special)
    order = torch.rand(ids.shape, generator=generator).masked_fill(~free, 2.0)
    counts = (SHARE * free.sum(1, keepdim=True)).round().clamp_min(1)  # (b, 1)
    chosen = free & (order.argsort(1).argsort(1) < counts)
    fate = torch.rand(ids.shape, generator=generator)
    others = torch.randint(0, vocab_size, ids.shape, generator=generator)
    hidden = torch.where(fate < MASKED, torch.full_like(ids, mask_id), ids)
    hidden = torch.where((fate >= MASKED) & (fate < MASKED + RANDOM), others, hidden)
    device = batch.input_ids.device
    seen = Batch(torch.where(chosen, hidden, ids).to(device), batch.attention_mask, batch.token_type_ids)
    return seen, ids.masked_fill(~chosen, IGNORED).to(device)


class MaskedLanguageModel(Method):
    """Replace the task loss of a training by the mean cross-entropy of the hidden tokens.

    Two hooks on the encoder do this within the loop's own forward pass, and so in its precision: one hides tokens
    before the encoder reads a batch, the other computes their logits from the last hidden states.
    """

    replaces_task_loss = True

    def __init__(self, student: Encoder, generator: torch.Generator) -> None:
        super().__init__(None)
        tokenizer = student.require_tokenizer()
        self.mask_id, self.special = _special(tokenizer)
        self.vocab_size, self.generator = tokenizer.vocab_size, generator
        self.head = MaskedLanguageModelHead(student.config, generator).to(
            student.embedding.word.weight.device
        )
        self._targets: Tensor | None = None
        self._logits: Tensor | None = None
        student.add_module(HEAD, self.head)
        self._hooks = [student.register_forward_pre_hook(self._hide)]
        words = student.embedding.word
        self._hooks.append(
            student.head.register_forward_pre_hook(lambda _, x: self._predict(x[0], words.weight))
        )

    def _hide(self, student: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        batch, self._targets = mask_tokens(
            inputs[0], self.special, self.mask_id, self.vocab_size, self.generator
        )
        return (batch, *inputs[1:])

    def _predict(self, states: Tensor, words: Tensor) -> None:
        assert self._targets is not None
        self._logits = self.head(states[self._targets != IGNORED], words)  # (hidden tokens, V)

    def learning_rate(self, name: str) -> float | None:
        """Return the head's own peak rate, and None for every other parameter."""
        return HEAD_LEARNING_RATE if name.startswith(f"{HEAD}.") else None

    def loss(self, step: Step) -> Tensor:
        """Return the mean of −log p over the hidden tokens; 0 if the batch has none."""
        assert self._targets is not None
        assert self._logits is not None
        logits, targets = self._logits.float(), self._targets[self._targets != IGNORED]
        return F.cross_entropy(logits, targets) if len(targets) else logits.sum()

    def end(self, student: Encoder) -> None:
        """Remove the head and the hooks from the student."""
        for hook in self._hooks:
            hook.remove()
        delattr(student, HEAD)


def pretrain(
    student: Encoder, methods: Sequence[Method], context: Context, stage: str, share: float
) -> float | None:
    """Train `student` in place as a masked-language model on the texts of the training set, for `share` of the stage's
    epochs, with the hooks of `methods`. The task's head is not trained.

    Returns the running mean of the loss at the end, in nats; None if the context wants shapes only. Raises
    SkylineError (`wrong-kind`) if the tokenizer has no token [MASK].
    """
    if context.shapes_only:
        return None
    model = MaskedLanguageModel(student, context.generator("masked-language-model"))
    try:
        train_round(student, [model, *methods], context, stage, share=share, patience=None)
    finally:
        model.end(student)
    return context.trained[-1].final_loss


def _special(tokenizer: Tokenizer) -> tuple[int, Tensor]:
    """Return the id of [MASK], and the ids (k,) of a pair of empty texts: the special tokens."""
    mask_id = tokenizer.fast.token_to_id("[MASK]")
    if mask_id is None:
        raise SkylineError(
            "the model's tokenizer has no token [MASK], so it cannot be pre-trained; use regime=after-fine-tuning, or "
            "a checkpoint whose tokenizer has one",
            Code.WRONG_KIND,
        )
    return mask_id, torch.tensor(tokenizer.fast.encode("", "").ids, dtype=torch.long)
