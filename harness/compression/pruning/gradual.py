"""Gradual pruning: the base class of methods that raise the sparsity of their masks on a schedule, while the model is
fine-tuned or while it is pre-trained (the regimes of Gordon et al. 2020).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from harness.common.errors import Code, SkylineError
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
"""How often masks are chosen during the ramp. Between two updates the dropped weights stay zero."""


def sparsity_at(progress: float, final: float, schedule: Schedule, begin: float, end: float) -> float:
    """Return the share of weights that are zero at `progress` (0 to 1) of training: 0 until `begin`, `final` from
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

    `sparsity` is the final share of zeros among the pruned matrices; the smallest scores are dropped within each
    matrix, or over all matrices together (`scope`). The sparsity rises from training progress `begin` to `end` as
    `schedule` says (see `sparsity_at`). `embeddings` prunes the word embeddings too.

    `regime` says when weights are pruned. after-fine-tuning: while the baseline is fine-tuned further. pretraining:
    while the pre-trained encoder is trained as a language model on the training texts for `pretraining_share` of the
    stage's epochs; the ramp is then in the progress of that training, and the masks are held during fine-tuning, which
    takes the rest. information-deletion: the same, but fine-tuning may change the zeros again.
    """

    sparsity: Annotated[float, Field(gt=0, lt=1)] = 0.5
    schedule: Schedule = "cubic"
    scope: Scope = "matrix"
    embeddings: bool = False
    begin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    end: Annotated[float, Field(gt=0, le=1)] = 0.6
    regime: Regime = AFTER
    pretraining_share: Annotated[float, Field(gt=0, lt=1)] = 0.75

    def __post_init__(self) -> None:
        """Raise ValueError if the ramp ends before it begins."""
        if self.begin >= self.end:
            raise ValueError(f"begin ({self.begin}) must come before end ({self.end})")


class GradualPruning(Method):
    """A method that keeps the weights with the largest scores. A subclass defines `scores`."""

    Options = RampOptions
    decides = frozenset({"which weights are zero"})
    takes_students = True
    masks: Masks

    @abstractmethod
    def scores(self) -> Mapping[str, Tensor]:
        """Return the score of every pruned weight: by parameter name, a tensor of the parameter's shape."""

    @property
    def restarts_from_pretrained(self) -> bool:
        """True in the regimes of pre-training."""
        return bool(self.options.regime != AFTER)

    @property
    def own_share(self) -> float:
        """The share of pre-training; 0 after fine-tuning."""
        return float(self.options.pretraining_share) if self.restarts_from_pretrained else 0.0

    @property
    def fully_compressed_at(self) -> float:
        """The end of the ramp; 0 in the regimes of pre-training, where it ends before fine-tuning."""
        return 0.0 if self.restarts_from_pretrained else float(self.options.end)

    def final_shape_from(self, config: Any) -> Any:
        """Return the shape unchanged. Raises SkylineError (`wrong-shape`) if there is no matrix to prune."""
        bare = isinstance(config, EncoderConfig) and not any(layer.present() for layer in config.layers)
        if bare and not self.options.embeddings:
            raise SkylineError(
                "the layers have no matrix to prune; use embeddings=true or leave it out", Code.WRONG_SHAPE
            )
        return config

    def draw(self, context: Context) -> None:
        """Draw the random numbers that the scores need. It is called once, after the masks are attached."""
        return

    def prepare(self, student: Model, context: Context) -> None:
        """Attach masks that keep all weights. In the regimes of pre-training, go back to the pre-trained weights first,
        then pre-train and prune.
        """
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
        loss = pretraining.pretrain(student, [self], context, stage, self.own_share)
        if loss is not None:
            context.figures["pretraining_loss"] = loss
        self.step(student, 1.0)

    def step(self, student: Model, progress: float) -> None:
        """Raise the sparsity as scheduled, and set dropped weights to zero again."""
        o = self.options
        due = int(UPDATES * min(1.0, max(0.0, (progress - o.begin) / (o.end - o.begin))))
        if due > self._updates:
            self._updates = due
            sparsity = sparsity_at(progress, o.sparsity, o.schedule, o.begin, o.end)
            self.masks.replace(pruning_masks.keep_largest(self.scores(), sparsity, o.scope))
        if self._held:
            self.masks.apply()

    def finish(self, student: Model, context: Context) -> None:
        """Raise the sparsity to its final value (in one shot if nothing was trained), and store the weights behind a
        bitmask. After information deletion they are stored densely, because few are still zero.
        """
        self.step(student, 1.0)
        if self._held:
            self.masks.store(student)


PRE_TRAINED = "after 100,000 steps of pre-training on BERT's corpus"
CONDITIONS: Mapping[Regime, str] = {
    AFTER: "with 3 epochs of fine-tuning before the pruning and 5 after it (7 from 80 %)",
    "pretraining": f"{PRE_TRAINED} and 3 epochs of fine-tuning",
    "information-deletion": f"{PRE_TRAINED} and 13 to 15 epochs of fine-tuning",
}
"""The training of Gordon et al. 2020 in each regime."""


def regime_claims(where: str, rows: Mapping[float, Sequence[float]], regime: Regime) -> tuple[Claim, ...]:
    """Return the claims of one regime in Gordon et al. 2020, Table 1. `rows` holds, by sparsity, the accuracies on
    MNLI, QQP, QNLI, SST-2 and CoLA in points; `where` is the regime's name in that table.
    """
    tasks = ("mnli", "qqp", "qnli", "sst2", "cola")
    return tuple(
        Claim(
            task,
            "dev",
            "accuracy",
            value,
            f"Table 1, {where}, {100 * sparsity:g} %",
            # The paper prunes the word embeddings too, and each matrix by a threshold of its own.
            options={"sparsity": sparsity, "regime": regime, "embeddings": True, "scope": "matrix"},
            conditions=CONDITIONS[regime],
        )
        for sparsity, values in rows.items()
        for task, value in zip(tasks, values, strict=True)
    )
