"""soft-movement: movement pruning with one threshold for all scores, and a penalty on the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Paper, options
from harness.common.lazy import lazy_imports
from harness.compression.pruning.gradual import sparsity_at
from harness.compression.pruning.movement import DISTILLED, MovementOptions, MovementPruning

with lazy_imports():
    import torch

    from harness.compression.pruning import masks as pruning_masks


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Step
    from harness.models.encoder.encoder import Encoder

PUBLISHED = {"penalty": 400.0, "threshold": 0.1, "start": "pretrained", "score_learning_rate": 1e-2}
LEAST_KEPT = 0.005
"""Smallest share of each matrix that is kept, as in the released code."""


class SoftMovement(MovementPruning):
    """Soft movement pruning (Sanh et al. 2020, section 4): W′ = W ⊙ 1[σ(S) > τ]. τ rises on the cubic schedule. The
    penalty λ · mean over matrices of mean σ(S), where λ grows with τ, draws scores below τ.
    """

    card = Card(
        id="soft-movement",
        title="Soft movement pruning",
        family="unstructured-pruning",
        paper=Paper(
            title="Movement Pruning: Adaptive Sparsity by Fine-Tuning",
            authors="Sanh, Wolf, Rush",
            year=2020,
            venue="NeurIPS",
            link="https://arxiv.org/abs/2005.07683",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "Distillation is not built in: combine it with kd-logits. In short trainings the scores have little time "
            "to fall, so a penalty reaches a lower sparsity."
        ),
        touches=("attention_in", "attention_out", "ffn"),
        reduces=("disk",),
        claims=(
            Claim(
                "mnli",
                "dev",
                "accuracy",
                81.2,
                "the released code's README, about 10 % kept",
                options=PUBLISHED,
                conditions=DISTILLED,
            ),
            Claim(
                "qqp",
                "dev",
                "accuracy",
                90.2,
                "the released code's README, about 10 % kept",
                options=PUBLISHED,
                conditions=DISTILLED,
            ),
        ),
        notes=(
            "The penalty decides the sparsity; no option sets it. All embeddings are frozen, as published. Scores "
            "begin at 0 and Adam moves them by at most about their rate in a step. A weight is pruned at τ = 0.1 once "
            "its score is below −2.2, so at the published rate of 1e-2 no training of less than some 220 steps prunes "
            "any; a short training needs a higher rate."
        ),
    )

    @options
    class Options(MovementOptions):
        """`penalty` λ and `threshold` τ at the end of the ramp."""

        penalty: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 400.0
        threshold: Annotated[float, Field(gt=0, lt=0.5)] = 0.1

    # The conformance tests train for three steps. At this rate some scores fall below a threshold close to 0.5.
    suite = {"score_learning_rate": (0.5,), "threshold": (0.45, 0.1), "penalty": (400.0, 100.0)}

    def _threshold(self, progress: float) -> float:
        o = self.options
        return sparsity_at(progress, o.threshold, "cubic", o.begin, o.end)

    def loss(self, step: Step) -> Tensor:
        """Return the penalty on the scores (a scalar)."""
        means = torch.stack([scored.scores.sigmoid().mean() for scored in self.masks.weights.values()])
        share = self._threshold(step.progress) / self.options.threshold
        return self.options.penalty * share * means.mean()

    def step(self, student: Encoder, progress: float) -> None:
        """Choose masks by the current threshold."""
        self.choose(progress)

    def choose(self, progress: float) -> None:
        """Keep weights with scores above the threshold, and at least the share `LEAST_KEPT` of each matrix."""
        threshold = self._threshold(progress)
        scores = self.masks.scores
        masks = {name: score.sigmoid() > threshold for name, score in scores.items()}
        least = {name: score for name, score in scores.items() if masks[name].float().mean() < LEAST_KEPT}
        self.masks.replace(masks | pruning_masks.keep_largest(least, 1 - LEAST_KEPT, "matrix"))
