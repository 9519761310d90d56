"""movement: weights that move away from zero during fine-tuning are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Paper, options
from harness.common.lazy import lazy_imports
from harness.compression.pruning.gradual import sparsity_at
from harness.compression.pruning.movement import DISTILLED, MovementOptions, MovementPruning

with lazy_imports():
    from harness.compression.pruning import masks


if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.encoder.encoder import Encoder

PUBLISHED = {"sparsity": 0.97, "start": "pretrained", "score_learning_rate": 1e-2}
UPDATES = 200
"""Number of times that masks are chosen in a training. The published code chooses them in every step."""


class Movement(MovementPruning):
    """Hard movement pruning (Sanh et al. 2020, section 4): W′ = W ⊙ Top_v(S). The scores S are trained with the
    gradient of the masked weight; the share v falls on the cubic schedule.
    """

    card = Card(
        id="movement",
        title="Movement pruning",
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
            "Masks are chosen up to 200 times in a training instead of in every step. Distillation is not built in: "
            "combine it with kd-logits."
        ),
        touches=("attention_in", "attention_out", "ffn"),
        reduces=("disk",),
        claims=(
            Claim(
                "mnli",
                "dev",
                "accuracy",
                76.5,
                "the released code's README, 3 % kept",
                options=PUBLISHED,
                conditions=DISTILLED,
            ),
            Claim(
                "qqp",
                "dev",
                "accuracy",
                86.1,
                "the released code's README, 3 % kept",
                options=PUBLISHED,
                conditions=DISTILLED,
            ),
        ),
        notes=(
            "All embeddings are frozen, as published. Dense kernels execute the zeros. The published trainings take "
            "some 100,000 steps."
        ),
    )

    @options
    class Options(MovementOptions):
        """`sparsity` of every matrix at the end of the ramp."""

        sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.85

    suite = {"sparsity": (0.6, 0.85, 0.97)}
    inert_when_tiny = {
        **MovementPruning.inert_when_tiny,
        "score_learning_rate": "Scores begin at 0 and masks depend on their order, which Adam's rate does not change.",
    }

    def prepare(self, student: Encoder, context: Context) -> None:
        """Attach the scores; no mask is chosen yet."""
        super().prepare(student, context)
        self._updates = 0

    def step(self, student: Encoder, progress: float) -> None:
        """Choose new masks, at most `UPDATES` times in the training."""
        due = int(UPDATES * progress)
        if due > self._updates:
            self._updates = due
            self.choose(progress)

    def choose(self, progress: float) -> None:
        """Keep the largest scores of each matrix."""
        o = self.options
        sparsity = sparsity_at(progress, o.sparsity, "cubic", o.begin, o.end)
        self.masks.replace(masks.keep_largest(self.masks.scores, sparsity, "matrix"))
