"""The loss on the task's own labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from harness.tasks.base import Kind


def task_loss(kind: Kind, logits: Tensor, targets: Tensor) -> Tensor:
    """Return the scalar loss in float32: cross-entropy of logits (b, classes), squared error of scores (b, 1), or for
    spans (b, n, 2) the mean cross-entropy of the first and the last token. Targets are (b,), for spans (b, 2).
    """
    logits = logits.float()
    if kind == "classification":
        return F.cross_entropy(logits, targets)
    if kind == "regression":
        return F.mse_loss(logits[:, 0], targets)
    return (
        F.cross_entropy(logits[..., 0], targets[:, 0]) + F.cross_entropy(logits[..., 1], targets[:, 1])
    ) / 2
