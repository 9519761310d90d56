"""Distillation losses on logits, hidden states and attention maps. All of them leave padding out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from harness.compression.context import Step
    from harness.models.batch import AttentionMap

LogitsLoss = Literal["kl", "mse", "soft-ce"]


def logit_rows(step: Step, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return the float32 logits of both as rows that are one distribution each: (b, classes), or for spans (2 b, n),
    one row over the tokens for the start and one for the end.
    """
    student, teacher = student.float(), teacher.float()
    if step.kind != "span":
        return student, teacher
    padding = step.batch.attention_mask[..., None] == 0  # (b, n, 1)
    # The cached logits are padded to the longest row of the training set: cut them to the batch's n.
    pair = [x[:, : student.shape[1]].masked_fill(padding, -1e4) for x in (student, teacher)]  # (b, n, 2) each
    return pair[0].transpose(1, 2).flatten(0, 1), pair[1].transpose(1, 2).flatten(0, 1)  # (2 b, n) each


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T² · KL(teacher ‖ student) of softmax(logits / T) of logits (rows, classes), the mean over rows: a scalar
    (Hinton et al. 2015, section 2).
    """
    return temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, dim=-1),
        F.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )


def soft_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """Return −Σ softmax(teacher) · log softmax(student) of logits (rows, classes), summed over classes and averaged
    over rows: a scalar.
    """
    return -(F.softmax(teacher, dim=-1) * F.log_softmax(student, dim=-1)).sum(-1).mean()


def logits_loss(
    step: Step, student: Tensor | None = None, temperature: float = 1.0, kind: LogitsLoss = "kl"
) -> Tensor:
    """Return the scalar loss between the student's logits (the step's, or `student`, of the same shape) and the
    teacher's: T² · KL, mean squared error, or soft cross-entropy at T = 1. For regression it is always the mean
    squared error.
    """
    own = step.output.logits if student is None else student
    if kind == "mse" or step.kind == "regression":
        return squared_logit_error(step, own)
    ours, theirs = logit_rows(step, own, step.teacher_logits)
    return soft_cross_entropy(ours, theirs) if kind == "soft-ce" else divergence(ours, theirs, temperature)


def squared_logit_error(step: Step, student: Tensor | None = None, temperature: float = 0.0) -> Tensor:
    """Return the mean squared error between the student's logits (the step's, or `student`) and the teacher's (Tang et
    al. 2019, section 3.3): a scalar. With a temperature above 0, softmax(logits / T) are compared instead, except for
    regression.
    """
    own = step.output.logits if student is None else student
    ours, theirs = logit_rows(step, own, step.teacher_logits)
    if temperature and step.kind != "regression":
        ours, theirs = (F.softmax(logits / temperature, dim=-1) for logits in (ours, theirs))
    return F.mse_loss(ours, theirs)


def hidden_losses(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Return the mean squared error (pairs,) of each pair of states (b, n, H) over the tokens in `mask` (b, n)."""
    chosen = mask.bool()
    pairs = zip(student, teacher, strict=True)
    return torch.stack([F.mse_loss(ours[chosen].float(), theirs[chosen].float()) for ours, theirs in pairs])


def attention_score_losses(
    student: Sequence[AttentionMap], teacher: Sequence[AttentionMap], mask: Tensor
) -> Tensor:
    """Return `score_losses` (pairs,) of the attention scores before the softmax (Jiao et al. 2020, eq. 7)."""
    return score_losses([each.scores for each in student], [each.scores for each in teacher], mask)


def score_losses(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Return the mean squared error (pairs,) of each pair of score maps (b, h, n, n), over the pairs of tokens that are
    both in `mask` (b, n).
    """
    real = mask.bool()
    chosen = (real[:, None, :, None] & real[:, None, None, :]).float()  # (b, 1, n, n)
    losses = []
    for ours, theirs in zip(student, teacher, strict=True):
        squared = (ours.float() - theirs.float()).square() * chosen  # (b, h, n, n)
        losses.append(squared.sum() / (chosen.sum() * ours.shape[1]).clamp_min(1))
    return torch.stack(losses)


def attention_divergences(
    student: Sequence[AttentionMap], teacher: Sequence[AttentionMap], mask: Tensor
) -> Tensor:
    """Return KL(teacher ‖ student) (pairs,) of each pair of attention distributions (b, h, n, n), the mean over heads
    and over the queries in `mask` (b, n) (Wang et al. 2020, equation 3; Sun et al. 2020, equation 5).
    """
    chosen = mask.bool()
    losses = []
    for ours, theirs in zip(student, teacher, strict=True):
        # Padding has probability 0 on both sides, and 0 · log 0 is 0 here.
        p, q = (
            each.probabilities.float().clamp_min(torch.finfo(torch.float32).tiny) for each in (theirs, ours)
        )
        # (b, h, n, n) summed over keys is (b, h, n), and of the chosen queries (tokens, h).
        losses.append((p * (p.log() - q.log())).sum(-1).transpose(1, 2)[chosen].mean())
    return torch.stack(losses)
