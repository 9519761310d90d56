"""kd-logits: a student with fewer layers learns the teacher's output distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness import Card, Claim, Paper, options
from harness.common.lazy import lazy_imports
from harness.compression.distillation.layer_maps import Shallower, ShallowerOptions

with lazy_imports():
    from harness.compression.distillation import losses


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Step


class KDLogits(Shallower):
    """L = α · CE(labels) + (1 − α) · T² · KL(teacher ‖ student). The mean squared error of the logits or their soft
    cross-entropy can replace the KL term. Regression uses the mean squared error of the scores.
    """

    card = Card(
        id="kd-logits",
        title="Logit distillation",
        family="distillation",
        paper=Paper(
            title="Distilling the Knowledge in a Neural Network",
            authors="Hinton, Vinyals, Dean",
            year=2015,
            venue="NeurIPS Deep Learning Workshop",
            link="https://arxiv.org/abs/1503.02531",
        ),
        scope="task-specific",
        fidelity="faithful",
        deviations="",
        touches=("attention_in", "attention", "attention_out", "ffn"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim(
                "sst2",
                "dev",
                "accuracy",
                90.8,
                "6 of 12 layers, the KD baseline in the result files of Sun et al. 2019",
                options={"layers": 6, "choose": "first", "loss": "kl"},
            ),
            Claim(
                "mnli",
                "dev",
                "accuracy",
                80.8,
                "6 of 12 layers, the KD baseline in the result files of Sun et al. 2019",
                options={"layers": 6, "choose": "first", "loss": "kl"},
            ),
        ),
        notes=(
            "The student starts from layers of the fine-tuned teacher. KL is summed over the classes, as the soft "
            "cross-entropy is; the squared error is their mean."
        ),
    )
    replaces_task_loss = True
    needs = frozenset({"teacher_logits"})

    @options
    class Options(ShallowerOptions):
        """`layers` of the student; `choose`: the teacher's layers that it starts from; `loss` on the logits: kl, mse or
        soft-ce; `temperature` T of kl; `alpha`: weight of the hard labels; `augment`: texts made of each example.
        """

        loss: Literal["kl", "mse", "soft-ce"] = "kl"
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
        alpha: Annotated[float, Field(ge=0, le=1)] = 0.5

    suite = {"layers": (1, 3), "choose": ("spread", "first", "last"), "loss": ("kl", "mse", "soft-ce")}

    def loss(self, step: Step) -> Tensor:
        """Return the weighted sum (a scalar), which replaces the task loss."""
        o = self.options
        soft = losses.logits_loss(step, temperature=o.temperature, kind=o.loss)
        return o.alpha * step.task_loss + (1 - o.alpha) * soft
