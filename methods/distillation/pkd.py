"""pkd: a student with fewer layers learns the teacher's logits, and the first token's states in its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness import Card, Claim, Paper, options
from harness.common.lazy import lazy_imports
from harness.compression.distillation.layer_maps import (
    Choice,
    Shallower,
    ShallowerOptions,
    map_layers,
    refuse_other_states,
)

with lazy_imports():
    import torch

    from harness.compression.distillation import losses


if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from harness.compression.comparable import Baseline
    from harness.compression.context import Context, Step
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

SOURCE = "the mean in the released result files"


def patient_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Return the mean squared error of the first token's normalised states over pairs of states (b, n, H), rows and
    units (Sun et al. 2019, section 3.2, eq. 7, averaged as in the released code).
    """
    ours, theirs = (
        torch.nn.functional.normalize(torch.stack([x[:, 0].float() for x in states]), dim=-1)
        for states in (student, teacher)
    )
    return torch.nn.functional.mse_loss(ours, theirs)


class PKD(Shallower):
    """Patient knowledge distillation (Sun et al. 2019, eq. 8): L = (1 − α) · CE + α · T² · KL(teacher ‖ student) + β ·
    L_PT.
    """

    card = Card(
        id="pkd",
        title="Patient knowledge distillation",
        family="distillation",
        paper=Paper(
            title="Patient Knowledge Distillation for BERT Model Compression",
            authors="Sun, Cheng, Gan, Liu",
            year=2019,
            venue="EMNLP-IJCNLP",
            link="https://aclanthology.org/D19-1441/",
        ),
        scope="task-specific",
        fidelity="faithful",
        deviations=(
            "The student starts from layers of the fine-tuned teacher; the paper starts it from the pre-trained BERT "
            "(remembered). The soft targets enter as T² · KL(teacher ‖ student) of both softmaxes at temperature T, "
            "summed over the classes; the released code takes the mean over the classes, so they weigh less there at "
            "the same α. Learning rate and epochs are those of the budget; the paper searches the rate in 5e-5, 2e-5, "
            "1e-5."
        ),
        touches=("attention_in", "attention", "attention_out", "ffn"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim("mnli", "dev", "accuracy", 82.23, SOURCE, options={"layers": 6, "choose": "first"}),
            Claim("sst2", "dev", "accuracy", 91.06, SOURCE, options={"layers": 6, "choose": "first"}),
            Claim(
                "qqp",
                "dev",
                "accuracy",
                90.83,
                SOURCE,
                options={"layers": 6, "choose": "first", "temperature": 20, "alpha": 0.7},
            ),
        ),
        notes=(
            "For the last layer the logits are compared, not the states. The paper searches T in 5, 10, 20, α in 0.2, "
            "0.5, 0.7 and β in 10, 100, 500, 1000."
        ),
    )
    replaces_task_loss = True
    needs = frozenset({"teacher_logits", "hidden_states"})

    @options
    class Options(ShallowerOptions):
        """`layers` of the student; `choose`: the teacher's layers that it starts from; `strategy`: the teacher's layers
        that it is compared with, every M/k-th (skip) or the topmost before the last (last); `alpha`: weight of the soft
        targets at `temperature` T; `beta`: weight of the states; `augment`: texts made of each example.
        """

        layers: Annotated[int, Field(ge=2)] = 3
        choose: Choice = "first"
        strategy: Literal["skip", "last"] = "skip"
        alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
        beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 100.0

    suite = {"layers": (2, 3), "choose": ("first", "spread"), "strategy": ("skip", "last")}

    def check_against(self, config: EncoderConfig, baseline: Baseline) -> None:
        """Raise SkylineError if the states cannot be compared with the teacher's, or the layers cannot be mapped."""
        super().check_against(config, baseline)
        refuse_other_states(config, baseline.config)
        map_layers(self.options.layers, len(baseline.config.layers), self.options.strategy)

    def prepare(self, student: Encoder, context: Context) -> None:
        """Choose the teacher's states to compare. Layer i's output is state i + 1, after the embedding's output."""
        mapped = map_layers(self.options.layers, len(context.teacher.config.layers), self.options.strategy)
        self.compared = [index + 1 for index in mapped[:-1]]

    def loss(self, step: Step) -> Tensor:
        """Return the weighted sum (a scalar), which replaces the task loss."""
        o, ours, theirs = self.options, step.output.hidden_states, step.teacher_pass.hidden_states
        assert ours is not None
        assert theirs is not None
        soft = losses.logits_loss(step, temperature=o.temperature)
        patient = patient_loss(ours[1:-1], [theirs[index] for index in self.compared])
        return (1 - o.alpha) * step.task_loss + o.alpha * soft + o.beta * patient
