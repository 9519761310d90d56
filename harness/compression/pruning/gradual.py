"""Gradual pruning: what methods share that raise the sparsity of their masks on a schedule while the model
trains, on the task or before that as a language model (the regimes of Gordon et al. 2020).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from harness.common.errors import SkylineError
from harness.common.lazy import lazy_imports
from harness.compression.card import Claim, options
from harness.compression.method import Method
from harness.compression.pruning.rewinding import rewind
from harness.models.config import EncoderConfig

with lazy_imports():
    from harness.compression import pretraining
    from harness.compression.pruning import masks as pruning_masks
    from harness.models.encoder import encoder


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context
    from harness.compression.pruning.masks import Masks
    from harness.models.model import Model

Schedule = Literal["cubic", "linear", "one-shot"]
Scope = Literal["matrix", "global"]
Regime = Literal["after-fine-tuning", "pretraining", "information-deletion"]
AFTER: Regime = "after-fine-tuning"
UPDATES = 50
"""Masks are chosen anew so many times over the ramp; between them the chosen weights stay zero."""


def sparsity_at(progress: float, final: float, schedule: Schedule, begin: float, end: float) -> float:
    """The share of weights that is zero at `progress` (0 … 1) of training: 0 until `begin`, `final` from
    `end` on.

    cubic: s = s_f (1 − (1 − u)³) with u = (progress − begin) / (end − begin) (Zhu & Gupta 2017, eq. 1, from
    s_i = 0); linear: s = s_f u (Movva et al. 2022); one-shot: s_f at `begin`.
    """
    if progress >= end or (schedule == "one-shot" and progress >= begin):
        return final
    if progress < begin or schedule == "one-shot":
        return 0.0
    share = (progress - begin) / (end - begin)
    return final * (share if schedule == "linear" else 1 - (1 - share) ** 3)


@options
class RampOptions:
    """The options of every gradual pruning method.

    `sparsity` is the final share of zeros among the pruned matrices, chosen for each matrix or over all
    (`scope`); `schedule` is the shape of the ramp up to it (see `sparsity_at`), `begin` and `end` bound it in
    training progress; `embeddings` prunes the word embeddings too.

    `regime` is when: after-fine-tuning, while the baseline is fine-tuned further; pretraining, while the pre-trained
    encoder is trained on as a language model, before it is fine-tuned with the masks held; information-deletion, in
    the same way, but the zeros may move again in fine-tuning. `pretraining_epochs` of the training set's text are
    read for that, and the ramp is then in the progress of this reading.
    """

    sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.5
    schedule: Schedule = "cubic"
    scope: Scope = "matrix"
    embeddings: bool = False
    begin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    end: Annotated[float, Field(gt=0, le=1)] = 0.6
    regime: Regime = AFTER
    pretraining_epochs: Annotated[float, Field(gt=0)] = 10.0

    def __post_init__(self) -> None:
        """The ramp must go forward."""
        if self.begin >= self.end:
            raise ValueError(f"begin ({self.begin}) must come before end ({self.end})")


class GradualPruning(Method):
    """A method that keeps the weights of the largest score. What a score is, `scores` says."""

    Options = RampOptions
    decides = frozenset({"which weights are zero"})
    takes_students = True
    masks: Masks

    @abstractmethod
    def scores(self) -> Mapping[str, Tensor]:
        """The score of every pruned weight, by the parameter's name, of the parameter's shape."""

    @property
    def restarts_from_pretrained(self) -> bool:
        """In the regimes of pre-training."""
        return bool(self.options.regime != AFTER)

    @property
    def fully_compressed_at(self) -> float:
        """The end of the ramp; the beginning where that is over before the training."""
        return 0.0 if self.restarts_from_pretrained else float(self.options.end)

    def final_shape_from(self, config: Any) -> Any:
        """There must be a matrix."""
        bare = isinstance(config, EncoderConfig) and not any(layer.present() for layer in config.layers)
        if bare and not self.options.embeddings:
            raise SkylineError("the layers have no matrix to prune; use embeddings=true or leave it out")
        return config

    def draw(self, context: Context) -> None:
        """Draw what the scores need, once the masks are attached."""
        return

    def prepare(self, student: Model, context: Context) -> None:
        """Attach masks that keep everything; in the regimes of pre-training, rewind, pre-train and prune."""
        o = self.options
        if self.restarts_from_pretrained:
            rewind(student, context, f"regime={o.regime}")
        self.masks = pruning_masks.Masks(student, pruning_masks.prunable(student, o.embeddings))
        self._updates = 0
        self._held = True
        self.draw(context)
        if self.restarts_from_pretrained:
            self._pretrain(student, context)
            self._held = o.regime == "pretraining"

    def _pretrain(self, student: Model, context: Context) -> None:
        assert isinstance(student, encoder.Encoder), "rewinding refuses any other"
        stage = f"{self.card.id} pre-training"
        loss = pretraining.pretrain(student, [self], context, stage, self.options.pretraining_epochs)
        if loss is not None:
            context.figures["pretraining_loss"] = loss
        self.step(student, 1.0)

    def step(self, student: Model, progress: float) -> None:
        """Raise the sparsity on schedule, and keep dropped weights at zero."""
        o = self.options
        due = int(UPDATES * min(1.0, max(0.0, (progress - o.begin) / (o.end - o.begin))))
        if due > self._updates:
            self._updates = due
            sparsity = sparsity_at(progress, o.sparsity, o.schedule, o.begin, o.end)
            self.masks.replace(pruning_masks.keep_largest(self.scores(), sparsity, o.scope))
        if self._held:
            self.masks.apply()

    def finish(self, student: Model, context: Context) -> None:
        """Bring the sparsity to its final value (in one shot where nothing was trained) and store the rest
        sparsely; densely after information deletion, where little is zero any more.
        """
        self.step(student, 1.0)
        if self._held:
            self.masks.store(student)


def regime_claims(where: str, rows: Mapping[float, Sequence[float]], regime: Regime) -> tuple[Claim, ...]:
    """The claims of Gordon et al. 2020, Table 1: accuracies on MNLI, QQP, QNLI, SST-2 and CoLA of the rows of one
    regime, by sparsity. `where` is the table's own name of it.
    """
    tasks = ("mnli", "qqp", "qnli", "sst2", "cola")
    return tuple(
        Claim(
            task,
            "dev",
            "accuracy",
            value,
            f"Table 1, {where}, {100 * sparsity:g} %",
            options={"sparsity": sparsity, "regime": regime},
        )
        for sparsity, values in rows.items()
        for task, value in zip(tasks, values, strict=True)
    )
