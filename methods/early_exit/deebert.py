"""deebert: exit ramps with poolers on a frozen encoder; a row leaves once its entropy is low."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Paper, options
from harness.common.lazy import lazy_imports
from harness.compression.early_exit import EarlyExit, Speed, entropy_candidates

with lazy_imports():
    import torch

    from harness.compression import task_loss as compression_task_loss
    from harness.models.encoder import exits as encoder_exits


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from harness.tasks.base import Kind


class DeeBert(EarlyExit):
    """DeeBERT (Xin et al. 2020): a pooler and a classifier on every layer but the last, trained on the task with the
    fine-tuned encoder frozen. A row leaves at the first ramp whose entropy, in nats, is below the threshold.
    """

    card = Card(
        id="deebert",
        title="DeeBERT",
        family="early-exit",
        paper=Paper(
            title="DeeBERT: Dynamic Early Exiting for Accelerating BERT Inference",
            authors="Xin, Tang, Lee, Yu, Lin",
            year=2020,
            venue="ACL",
            link="https://aclanthology.org/2020.acl-main.204/",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "Rows leave their batch one by one; the published code runs batches of one row. The threshold is given, or "
            "chosen for a speed on training rows; the paper reads it off curves on the dev set. A ramp starts as a "
            "copy of the pooler and of the classifier; the released code copies the pooler alone."
        ),
        touches=("head",),
        reduces=("flops", "latency"),
        claims=tuple(
            Claim(
                task,
                "unknown",
                "accuracy",
                value,
                "Ganesh et al. 2021, Table 1, at 1.25 times the speed on a P100",
                sure=task != "qqp",  # the survey does not say in which metric
                options={"speed": 1.25},
            )
            for task, value in (("mnli", 83.9), ("qqp", 89.2), ("sst2", 93.4))
        ),
        input_dependent=True,
        notes=(
            "The speed is measured on rows that the ramps were not trained on. The encoder was fine-tuned on them, "
            "however, and is more certain of them than of new rows, on which the speed stays below the target. The "
            "ramps of BERT-base add 5.9 % to its parameters. A given threshold is tried on rows that the ramps were "
            "trained on."
        ),
    )
    ramp = "pooler"
    rule_kind = "entropy"

    @options
    class Options:
        """`threshold` on the entropy in nats, or the `speed` that it is chosen for: the baseline's FLOPs divided by the
        mean FLOPs of a row. Without either, a speed of 2.
        """

        threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
        speed: Speed | None = None

        def __post_init__(self) -> None:
            """Raise ValueError if both are given."""
            if self.threshold is not None and self.speed is not None:
                raise ValueError("threshold and speed exclude each other; give one")

    suite = {"speed": (2.0, 1.5, 3.0)}

    def ramp_loss(self, kind: Kind, exits: Mapping[int, Tensor], logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of the ramps' cross-entropies, each of logits (b, classes) (section 3.2, stage 2)."""
        return torch.stack(
            [compression_task_loss.task_loss(kind, each, targets) for each in exits.values()]
        ).sum()

    def candidates(self, exits: Mapping[int, Tensor]) -> Sequence[float]:
        """Return thresholds between the entropies, the lowest first. `exits` are logits (b, classes) by layer."""
        return entropy_candidates(torch.stack([encoder_exits.entropy(logits) for logits in exits.values()]))
