"""pabee: a classifier on every layer, trained together; a row leaves once its prediction stays the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Paper, options
from harness.common.lazy import lazy_imports
from harness.compression.early_exit import EarlyExit, Speed
from harness.models.config import ExitRule

with lazy_imports():
    import torch

    from harness.compression import task_loss as compression_task_loss


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from harness.tasks.base import Kind


class Pabee(EarlyExit):
    """PABEE (Zhou et al. 2020): the encoder and a classifier on each layer are trained together; later classifiers have
    larger weights. A row leaves once `patience` consecutive classifiers repeated the prediction before them.
    """

    card = Card(
        id="pabee",
        title="PABEE",
        family="early-exit",
        paper=Paper(
            title="BERT Loses Patience: Fast and Robust Inference with Early Exit",
            authors="Zhou, Xu, Ge, McAuley, Xu, Wei",
            year=2020,
            venue="NeurIPS",
            link="https://arxiv.org/abs/2006.04152",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "Training starts from the fine-tuned encoder of the stage before, not from the pre-trained one. Rows "
            "leave their batch one by one; the published code runs batches of one row. The patience is given, or it is "
            "the largest that reaches a speed on training rows."
        ),
        touches=("embedding", "attention_in", "attention_out", "ffn", "head"),
        reduces=("flops", "latency"),
        claims=tuple(
            Claim(task, "dev", "accuracy", value, "the released code's README", options={"speed": 1.62})
            for task, value in (("mnli", 83.6), ("sst2", 92.0))
        ),
        input_dependent=True,
        notes=(
            "The patience is a whole number, so a speed is reached or exceeded. It is chosen on rows that this "
            "training did not see. The baseline's training did, so the encoder is more certain of them than of new "
            "rows. The published patience is 3 to 8 on twelve layers. With patience p no row leaves before layer p + "
            "1, so on six layers the speed stays below 6 / (p + 1)."
        ),
        version=2,
    )
    ramp = "linear"
    rule_kind = "patience"
    given = "patience"
    # On six layers patience 1, the least, is not twice as fast: the first two classifiers often disagree.
    usual_speed = 1.5
    freezes = False

    @options
    class Options:
        """`patience`: number of consecutive repetitions; or the `speed` that it is chosen for: the baseline's FLOPs
        divided by the mean FLOPs of a row (without either, 1.5). Regression scores that differ by less than `tolerance`
        count as the same.
        """

        patience: Annotated[int, Field(ge=1)] | None = None
        speed: Speed | None = None
        tolerance: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5

        def __post_init__(self) -> None:
            """Raise ValueError if both are given."""
            if self.patience is not None and self.speed is not None:
                raise ValueError("patience and speed exclude each other; give one")

    suite = {"speed": (1.3, 1.5), "tolerance": (0.5, 0.1)}

    @property
    def earliest(self) -> int:
        """The earliest layer to exit from, counted from 1. The first classifier has no prediction to repeat."""
        return 1 + int(self.threshold or 1)

    def rule(self, threshold: float) -> ExitRule:
        """Return the exit rule with patience `threshold` and the tolerance for scores."""
        return ExitRule(kind="patience", threshold=threshold, tolerance=self.options.tolerance)

    def ramp_loss(self, kind: Kind, exits: Mapping[int, Tensor], logits: Tensor, targets: Tensor) -> Tensor:
        """Return Σ i · L_i / Σ i over all classifiers, with the head as the last (section 3.3, eq. 4)."""
        numbered = {**exits, len(exits) + 1: logits}
        losses = torch.stack(
            [
                number * compression_task_loss.task_loss(kind, each, targets)
                for number, each in numbered.items()
            ]
        )
        return losses.sum() / sum(numbered)

    def candidates(self, exits: Mapping[int, Tensor]) -> Sequence[float]:
        """Return the possible patiences, from the largest that a row can meet down to 1."""
        return [float(patience) for patience in range(len(exits) - 1, 0, -1)]
