"""Movement pruning: the base class of methods whose masks follow trained scores (Sanh et al. 2020, section 4)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from harness.common.lazy import lazy_imports
from harness.compression.card import options
from harness.compression.method import Method
from harness.compression.pruning.rewinding import rewind

with lazy_imports():
    from harness.compression.pruning import learned_masks


if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.compression.pruning.learned_masks import LearnedMasks
    from harness.models.model import Model

DISTILLED = "with distillation from a fine-tuned BERT-base, 10 epochs in batches of 16 rows"
"""The conditions of the figures in the released code's README."""


@options
class MovementOptions:
    """`begin` and `end`: training progress at which the ramp begins and ends. `score_learning_rate`: the peak learning
    rate of the scores. `start`: the weights to begin with, either the pre-trained ones as in the paper, or those that
    the previous stage left.
    """

    begin: Annotated[float, Field(ge=0, lt=1)] = 0.1
    end: Annotated[float, Field(gt=0, le=1)] = 0.8
    score_learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-2
    start: Literal["pretrained", "fine-tuned"] = "pretrained"

    def __post_init__(self) -> None:
        """Raise ValueError if the ramp ends before it begins."""
        if self.begin >= self.end:
            raise ValueError(f"begin ({self.begin}) must come before end ({self.end})")


class MovementPruning(Method):
    """A method that masks the layers' matrices by trained scores. A subclass defines `choose`. Embeddings are frozen,
    as published.
    """

    Options = MovementOptions
    decides = frozenset({"which weights are zero"})
    inert_when_tiny: ClassVar[Mapping[str, str]] = {
        "start": "The tiny encoder was not fine-tuned: its pre-trained weights are the same."
    }
    masks: LearnedMasks

    @abstractmethod
    def choose(self, progress: float) -> None:
        """Set the masks from the present scores. `progress` is steps done / all steps."""

    @property
    def fully_compressed_at(self) -> float:
        """The end of the ramp."""
        return float(self.options.end)

    @property
    def restarts_from_pretrained(self) -> bool:
        """True unless `start` asks for the previous stage's weights."""
        return bool(self.options.start == "pretrained")

    def prepare(self, student: Model, context: Context) -> None:
        """Restore the pre-trained weights if `start` asks for them, attach scores to the layers' matrices, and freeze
        the embeddings.
        """
        if self.restarts_from_pretrained:
            rewind(student, context, f"{self.card.id}:start=pretrained")
        student.embedding.requires_grad_(False)
        self.masks = learned_masks.LearnedMasks(student, list(student.matrix_names()))

    def learning_rate(self, name: str) -> float | None:
        """Return the rate of the scores, and None for every other parameter."""
        return self.options.score_learning_rate if learned_masks.is_score(name) else None

    def finish(self, student: Model, context: Context) -> None:
        """Choose the last masks and store the masked weights."""
        self.choose(1.0)
        self.masks.store(student)
        student.embedding.requires_grad_(True)
