"""Masks whose scores are trained beside the weights (movement pruning: Sanh et al. 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.models.codecs import Bitmask, Codec
from harness.models.model import Model
from harness.models.parametrization import attach, bake


class _Masked(torch.autograd.Function):
    """W ⊙ M. The mask's step function passes the gradient through, so ∂L/∂S = ∂L/∂W′ ⊙ W (section 3, eq. 4)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        """Return the kept weights."""
        ctx.save_for_backward(weight, mask)
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """The weight's gradient where it is kept, the score's everywhere."""
        weight, mask = ctx.saved_tensors
        return gradients[0] * mask, gradients[0] * weight, None


class ScoredWeight(nn.Module):
    """A weight seen through a mask; `scores`, of its shape, begin at 0 and are trained. `mask` is set from outside
    and keeps everything at first.
    """

    mask: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros_like(weight))
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        """The kept weights."""
        masked: Tensor = _Masked.apply(weight, self.scores, self.mask)  # type: ignore[no-untyped-call]
        return masked


class LearnedMasks:
    """Scored masks on an encoder's weights, by name."""

    def __init__(self, student: Model, names: list[str]) -> None:
        parameters = dict(student.named_parameters())
        self.weights = {name: ScoredWeight(parameters[name].detach()) for name in names}
        for name, scored in self.weights.items():
            attach(student, name, scored)

    @property
    def scores(self) -> dict[str, Tensor]:
        """The scores by the weight's name, without gradient."""
        return {name: scored.scores.detach() for name, scored in self.weights.items()}

    def replace(self, masks: dict[str, Tensor]) -> None:
        """Use these masks (true = kept) from now on."""
        for name, mask in masks.items():
            self.weights[name].mask = mask

    def store(self, student: Model) -> None:
        """Leave the kept weights in the encoder, the scores go, and let the artifact store a bitmask."""
        codecs = student.storage.codecs
        for name in self.weights:
            bake(student, name)
            codecs[name] = codecs.get(name, Codec()).with_stage(Bitmask())


def is_score(name: str) -> bool:
    """Whether a student's parameter of this name is a mask's scores."""
    return ".parametrizations." in name and name.endswith(".scores")
