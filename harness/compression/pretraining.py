"""Masked-language modelling (Devlin et al. 2019, section 3.1) on a task's training text: what a method needs that
acts during pre-training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.common.errors import SkylineError
from harness.compression.method import Method
from harness.compression.training import train_round
from harness.models.batch import Batch
from harness.models.encoder.encoder import Encoder

if TYPE_CHECKING:
    from harness.compression.context import Context, Step
    from harness.models.tokenizer import Tokenizer
from harness.models.encoder.mlm_head import MaskedLanguageModelHead

SHARE = 0.15
"""Of a sequence's tokens so many are to be predicted."""
MASKED, RANDOM = 0.8, 0.1
"""Of these, so many become [MASK] and so many a random token; the others stay."""
IGNORED = -100
"""The target where nothing is to be predicted."""
HEAD = "masked_language_model"
"""The head's name in the student while it is pre-trained."""
HEAD_LEARNING_RATE = 1e-3
"""Peak, of the head: it begins anew, while the encoder is pre-trained."""


def mask_tokens(
    batch: Batch, special: Tensor, mask_id: int, vocab_size: int, generator: torch.Generator
) -> tuple[Batch, Tensor]:
    """Hide tokens of each sequence, round(0.15 · n) of its n and at least one: (batch, targets).

    `special` (k,) are the ids that are never hidden; padding is not either. Targets (b, n) are the true ids of the
    hidden tokens and `IGNORED` elsewhere. `generator` is the CPU's.
    """
    ids = batch.input_ids.cpu()
    free = batch.attention_mask.cpu().bool() & ~torch.isin(ids, special)
    order = torch.rand(ids.shape, generator=generator).masked_fill(~free, 2.0)
    counts = (SHARE * free.sum(1, keepdim=True)).round().clamp_min(1)
    chosen = free & (order.argsort(1).argsort(1) < counts)
    fate = torch.rand(ids.shape, generator=generator)
    others = torch.randint(0, vocab_size, ids.shape, generator=generator)
    hidden = torch.where(fate < MASKED, torch.full_like(ids, mask_id), ids)
    hidden = torch.where((fate >= MASKED) & (fate < MASKED + RANDOM), others, hidden)
    device = batch.input_ids.device
    seen = Batch(torch.where(chosen, hidden, ids).to(device), batch.attention_mask, batch.token_type_ids)
    return seen, ids.masked_fill(~chosen, IGNORED).to(device)


class MaskedLanguageModel(Method):
    """Replaces the task loss of a training by the mean cross-entropy of the hidden tokens.

    The hooks of an encoder hide tokens before it reads a batch, and take the last states before its own head does:
    so the logits of hidden tokens come from the pass that the training loop makes, in its precision.
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
        self._logits = self.head(states[self._targets != IGNORED], words)

    def learning_rate(self, name: str) -> float | None:
        """The head has a rate of its own."""
        return HEAD_LEARNING_RATE if name.startswith(f"{HEAD}.") else None

    def loss(self, step: Step) -> Tensor:
        """−log p of the hidden tokens, their mean; 0 where a batch has none to hide."""
        assert self._targets is not None
        assert self._logits is not None
        logits, targets = self._logits.float(), self._targets[self._targets != IGNORED]
        return F.cross_entropy(logits, targets) if len(targets) else logits.sum()

    def end(self, student: Encoder) -> None:
        """Take the head and the hooks away."""
        for hook in self._hooks:
            hook.remove()
        delattr(student, HEAD)


def pretrain(
    student: Encoder, methods: Sequence[Method], context: Context, stage: str, epochs: float
) -> float | None:
    """Train `student` in place as a masked-language model on the text of the training set; `methods` act on it.

    Returns the running mean of the loss at the end, in nats; None where nothing is trained. The task's head is not
    trained. Raises SkylineError for a tokenizer without a token [MASK].
    """
    if context.shapes_only:
        return None
    model = MaskedLanguageModel(student, context.generator("masked-language-model"))
    try:
        train_round(student, [model, *methods], context, stage, epochs=epochs, patience=None)
    finally:
        model.end(student)
    return context.trained[-1].final_loss


def _special(tokenizer: Tokenizer) -> tuple[int, Tensor]:
    """The id of [MASK], and the ids that a pair of empty texts is made of."""
    mask_id = tokenizer.fast.token_to_id("[MASK]")
    if mask_id is None:
        raise SkylineError(
            "the model's tokenizer has no token [MASK], so that nothing can be pre-trained; use "
            "regime=after-fine-tuning, or a checkpoint with a masked language model's tokenizer"
        )
    return mask_id, torch.tensor(tokenizer.fast.encode("", "").ids, dtype=torch.long)
