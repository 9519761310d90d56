"""Masks whose scores are trained together with the weights (movement pruning: Sanh et al. 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.models.codecs import Bitmask, Codec
from harness.models.model import Model
from harness.models.parametrization import attach, bake


class _Masked(torch.autograd.Function):
    """W′ = W ⊙ M. The gradient passes straight through the mask's step function, so ∂L/∂S = ∂L/∂W′ ⊙ W (section 3,
    eq. 4).
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        """Return W ⊙ M."""
        ctx.save_for_backward(weight, mask)
        return weight * mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return the gradients of the weights (0 for dropped ones), of the scores (of all weights), and None."""
        weight, mask = ctx.saved_tensors
        return gradients[0] * mask, gradients[0] * weight, None


class ScoredWeight(nn.Module):
    """A parametrization that masks a weight. `scores` have the weight's shape, begin at 0 and are trained. `mask` is
    boolean (true = kept), begins with all true, and is set by `LearnedMasks.replace`.
    """

    mask: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros_like(weight))
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with dropped entries set to 0."""
        masked: Tensor = _Masked.apply(weight, self.scores, self.mask)  # type: ignore[no-untyped-call]
        return masked


class LearnedMasks:
    """Trained scores and masks on a model's weights, by name."""

    def __init__(self, student: Model, names: list[str]) -> None:
        parameters = dict(student.named_parameters())
        self.weights = {name: ScoredWeight(parameters[name].detach()) for name in names}
        for name, scored in self.weights.items():
            attach(student, name, scored)

    @property
    def scores(self) -> dict[str, Tensor]:
        """The scores by the weight's name, detached, of the weight's shape."""
        return {name: scored.scores.detach() for name, scored in self.weights.items()}

    def replace(self, masks: dict[str, Tensor]) -> None:
        """Use these masks (true = kept) from now on."""
        for name, mask in masks.items():
            self.weights[name].mask = mask

    def store(self, student: Model) -> None:
        """Leave the masked weights in the student, remove the scores, and make the artifact store a bitmask."""
        codecs = student.storage.codecs
        for name in self.weights:
            bake(student, name)
            codecs[name] = codecs.get(name, Codec()).with_stage(Bitmask())


def is_score(name: str) -> bool:
    """Return whether the student's parameter of this name holds scores of a mask."""
    return ".parametrizations." in name and name.endswith(".scores")
