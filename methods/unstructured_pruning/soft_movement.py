"""soft-movement: movement pruning with one threshold for all scores and a penalty on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Paper, options
from harness.common.lazy import lazy_imports
from harness.compression.pruning.gradual import sparsity_at
from harness.compression.pruning.movement import MovementOptions, MovementPruning

with lazy_imports():
    import torch

    from harness.compression.pruning import masks as pruning_masks


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Step
    from harness.models.encoder.encoder import Encoder

LEAST_KEPT = 0.005
"""Of each matrix so much stays at least, as in the released code."""


class SoftMovement(MovementPruning):
    """Soft movement pruning (Sanh et al. 2020, section 4): W′ = W ⊙ 1[σ(S) > τ]; τ rises on the cubic schedule,
    and λ · mean over matrices of mean σ(S), which grows with τ, draws the scores below it.
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
            "Distillation is not built in: combine it with kd-logits. In short "
            "trainings the scores have little time to fall, so the sparsity that a penalty reaches is lower."
        ),
        touches=("attention_in", "attention_out", "ffn"),
        reduces=("disk",),
        claims=(
            Claim(
                "mnli",
                "dev",
                "accuracy",
                81.2,
                "the released code's README, about 10 % kept, with distillation",
                options={"penalty": 400.0},
            ),
            Claim(
                "qqp",
                "dev",
                "accuracy",
                90.2,
                "the released code's README, about 10 % kept, with distillation",
                options={"penalty": 400.0},
            ),
        ),
        notes=(
            "The penalty, not an option, decides the sparsity. All embeddings are frozen, as published. At the "
            "published rate of the scores nothing is pruned in some hundred steps, so short trainings want ten times "
            "that and a smaller penalty; how much goes then depends on the task."
        ),
    )

    @options
    class Options(MovementOptions):
        """`penalty` λ at the end; the final `threshold` τ."""

        penalty: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 400.0
        threshold: Annotated[float, Field(gt=0, lt=0.5)] = 0.1

    # The conformance tests train for three steps: at this rate the scores get below a threshold so near to 0.5.
    suite = {"score_learning_rate": (0.5,), "threshold": (0.45, 0.1), "penalty": (400.0, 100.0)}

    def _threshold(self, progress: float) -> float:
        o = self.options
        return sparsity_at(progress, o.threshold, "cubic", o.begin, o.end)

    def loss(self, step: Step) -> Tensor:
        """The penalty on the scores."""
        means = torch.stack([scored.scores.sigmoid().mean() for scored in self.masks.weights.values()])
        share = self._threshold(step.progress) / self.options.threshold
        return self.options.penalty * share * means.mean()

    def step(self, student: Encoder, progress: float) -> None:
        """Keep what is above the threshold of now."""
        self.choose(progress)

    def choose(self, progress: float) -> None:
        """Keep the scores above the threshold, and a few of each matrix at least."""
        threshold = self._threshold(progress)
        scores = self.masks.scores
        masks = {name: score.sigmoid() > threshold for name, score in scores.items()}
        least = {name: score for name, score in scores.items() if masks[name].float().mean() < LEAST_KEPT}
        self.masks.replace(masks | pruning_masks.keep_largest(least, 1 - LEAST_KEPT, "matrix"))
