"""movement: weights that move away from zero while fine-tuning stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness import Card, Claim, Method, Paper, options

if TYPE_CHECKING:
    from harness.encoder import Encoder
    from harness.training import Context

UPDATES = 200
"""Masks are chosen anew so many times in a training; the published code does so in every step."""


class Movement(Method):
    """Hard movement pruning (Sanh et al. 2020, section 4): W′ = W ⊙ Top_v(S), the scores S trained with the
    gradient of the masked weight; v falls on the cubic schedule.
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
            "Masks are chosen anew up to 200 times in a training instead of in every step. Distillation is not built "
            "in: combine it with kd-logits."
        ),
        touches=("attention_in", "attention_out", "ffn"),
        reduces=("disk",),
        claims=(
            Claim(
                "mnli",
                "dev",
                "accuracy",
                76.5,
                "the released code's README, 3 % kept, with distillation",
                options={"sparsity": 0.97},
            ),
            Claim(
                "qqp",
                "dev",
                "accuracy",
                86.1,
                "the released code's README, 3 % kept, with distillation",
                options={"sparsity": 0.97},
            ),
        ),
        notes="All embeddings are frozen, as published. Dense kernels execute the zeros.",
    )
    rewrites = frozenset({"which weights are zero"})

    @options
    class Options:
        """`sparsity` of every matrix in the end; `begin` and `end` of the ramp in training progress;
        `score_learning_rate`, the peak rate of the scores; `start`: from the pre-trained weights, whose movement
        the paper follows (where the student has their shape), or from those that the stage before left.
        """

        sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.85
        begin: Annotated[float, Field(ge=0, lt=1)] = 0.1
        end: Annotated[float, Field(gt=0, le=1)] = 0.8
        score_learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-2
        start: Literal["pretrained", "fine-tuned"] = "pretrained"

        def __post_init__(self) -> None:
            """The ramp must go forward."""
            if self.begin >= self.end:
                raise ValueError(f"begin ({self.begin}) must come before end ({self.end})")

    suite = {"sparsity": (0.6, 0.85, 0.97)}

    @property
    def settled(self) -> float:
        """The end of the ramp."""
        return float(self.options.end)

    def prepare(self, student: Encoder, context: Context) -> None:
        """Go back to the start, attach scores to the layers' matrices, and freeze the embeddings."""
        from harness.learned_masks import LearnedMasks

        if self.options.start == "pretrained":
            context.rewind(student)
        student.embedding.requires_grad_(False)
        self.masks = LearnedMasks(student, list(student.matrix_names()))
        self._updates = 0

    def learning_rate(self, name: str) -> float | None:
        """The scores have a rate of their own."""
        from harness.learned_masks import is_score

        return self.options.score_learning_rate if is_score(name) else None

    def step(self, student: Encoder, progress: float) -> None:
        """Choose the masks by the scores as they are now."""
        due = int(UPDATES * progress)
        if due > self._updates:
            self._updates = due
            self._choose(progress)

    def _choose(self, progress: float) -> None:
        from harness.gradual import sparsity_at
        from harness.pruning import keep_largest

        o = self.options
        sparsity = sparsity_at(progress, o.sparsity, "cubic", o.begin, o.end)
        self.masks.replace(keep_largest(self.masks.scores, sparsity, "matrix"))

    def finish(self, student: Encoder, context: Context) -> None:
        """Bake the last masks."""
        self._choose(1.0)
        self.masks.store(student)
        student.embedding.requires_grad_(True)
