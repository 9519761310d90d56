"""Losses that distilling methods share: on logits, hidden states and attention scores. Padding takes no part."""

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
    """Both sides' logits as rows of one distribution each: (b, classes), or for spans (2 b, n) over the tokens of
    start and end.
    """
    student, teacher = student.float(), teacher.float()
    if step.kind != "span":
        return student, teacher
    padding = step.batch.attention_mask[..., None] == 0
    pair = [x[:, : student.shape[1]].masked_fill(padding, -1e4) for x in (student, teacher)]
    return pair[0].transpose(1, 2).flatten(0, 1), pair[1].transpose(1, 2).flatten(0, 1)


def divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · KL(teacher ‖ student) of softened logits (rows, classes), mean over rows (Hinton et al. 2015, section
    2).
    """
    return temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, dim=-1),
        F.log_softmax(teacher / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )


def soft_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """−Σ softmax(teacher) · log softmax(student) of logits (rows, classes), summed over classes, mean over rows."""
    return -(F.softmax(teacher, dim=-1) * F.log_softmax(student, dim=-1)).sum(-1).mean()


def logits_loss(
    step: Step, student: Tensor | None = None, temperature: float = 1.0, kind: LogitsLoss = "kl"
) -> Tensor:
    """What the teacher's and the student's logits (the step's own, or those given) differ by: T² · KL, the squared
    error or the soft cross-entropy (at T = 1); the squared error for regression.
    """
    own = step.output.logits if student is None else student
    if kind == "mse" or step.kind == "regression":
        return squared_logit_error(step, own)
    ours, theirs = logit_rows(step, own, step.teacher_logits)
    return soft_cross_entropy(ours, theirs) if kind == "soft-ce" else divergence(ours, theirs, temperature)


def squared_logit_error(step: Step, student: Tensor | None = None, temperature: float = 0.0) -> Tensor:
    """The mean squared error between the student's logits (the step's own, or those given) and the teacher's (Tang et
    al. 2019, section 3.3), or between their softmax at a temperature above 0. Scores are always compared raw.
    """
    own = step.output.logits if student is None else student
    ours, theirs = logit_rows(step, own, step.teacher_logits)
    if temperature and step.kind != "regression":
        ours, theirs = (F.softmax(logits / temperature, dim=-1) for logits in (ours, theirs))
    return F.mse_loss(ours, theirs)


def hidden_losses(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """The mean squared error of each pair of states (b, n, H) over the tokens of `mask` (b, n): (pairs,)."""
    chosen = mask.bool()
    pairs = zip(student, teacher, strict=True)
    return torch.stack([F.mse_loss(ours[chosen].float(), theirs[chosen].float()) for ours, theirs in pairs])


def attention_score_losses(
    student: Sequence[AttentionMap], teacher: Sequence[AttentionMap], mask: Tensor
) -> Tensor:
    """`score_losses` of the maps' scores before the softmax (Jiao et al. 2020, eq. 7): (pairs,)."""
    return score_losses([each.scores for each in student], [each.scores for each in teacher], mask)


def score_losses(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """The mean squared error of each pair of score maps (b, h, n, n) over pairs of tokens that are both in `mask`
    (b, n): (pairs,).
    """
    real = mask.bool()
    chosen = (real[:, None, :, None] & real[:, None, None, :]).float()
    losses = []
    for ours, theirs in zip(student, teacher, strict=True):
        squared = (ours.float() - theirs.float()).square() * chosen
        losses.append(squared.sum() / (chosen.sum() * ours.shape[1]).clamp_min(1))
    return torch.stack(losses)


def attention_divergences(
    student: Sequence[AttentionMap], teacher: Sequence[AttentionMap], mask: Tensor
) -> Tensor:
    """KL(teacher ‖ student) of each pair of attention distributions (b, h, n, n), the mean over heads and the queries
    in `mask` (b, n): (pairs,) (Wang et al. 2020, equation 3; Sun et al. 2020, equation 5).
    """
    chosen = mask.bool()
    losses = []
    for ours, theirs in zip(student, teacher, strict=True):
        # Padding has probability 0 on both sides, and 0 · log 0 is 0 here.
        p, q = (
            each.probabilities.float().clamp_min(torch.finfo(torch.float32).tiny) for each in (theirs, ours)
        )
        losses.append((p * (p.log() - q.log())).sum(-1).transpose(1, 2)[chosen].mean())
    return torch.stack(losses)
