"""kd-logits: a student of fewer layers learns the teacher's output distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness import Card, Claim, Method, Paper, SkylineError, options

if TYPE_CHECKING:
    from torch import Tensor

    from harness.config import EncoderConfig
    from harness.encoder import Encoder
    from harness.training import Context, Step


def choose_layers(available: int, wanted: int, choice: str) -> list[int]:
    """Which of the teacher's layers the student starts from, in order.

    first: 0 … k−1 (Sun et al. 2019); last: the k topmost; spread: evenly, both ends included (0,
    2, 4, 7, 9, 11 for 6 of 12, DistilBERT's choice). Raises SkylineError where the student would be deeper
    than its teacher.
    """
    if wanted > available:
        raise SkylineError(
            f"kd-logits:layers={wanted} is more than the teacher's {available}; use {available} or fewer"
        )
    if choice == "first":
        return list(range(wanted))
    if choice == "last":
        return list(range(available - wanted, available))
    if wanted == 1:
        return [0]
    return [int(i * (available - 1) / (wanted - 1) + 0.5) for i in range(wanted)]


class KDLogits(Method):
    """L = α · CE(labels) + (1 − α) · T² · KL(teacher ‖ student); mean squared error of the scores for
    regression.
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
                options={"layers": 6, "choose": "first"},
            ),
            Claim(
                "mnli",
                "dev",
                "accuracy",
                80.8,
                "6 of 12 layers, the KD baseline in the result files of Sun et al. 2019",
                options={"layers": 6, "choose": "first"},
            ),
        ),
        notes="The student starts from layers of the fine-tuned teacher.",
    )
    replaces_task_loss = True
    needs = frozenset({"teacher_logits"})
    rewrites = frozenset({"the student"})

    @options
    class Options:
        """`layers` of the student; `choose`, which of the teacher's it starts from; `temperature` T; `alpha`,
        the weight of the hard labels.
        """

        layers: Annotated[int, Field(ge=1)] = 3
        choose: Literal["spread", "first", "last"] = "spread"
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
        alpha: Annotated[float, Field(ge=0, le=1)] = 0.5

    suite = {"layers": (1, 3), "choose": ("spread", "first", "last")}

    def check(self, config: EncoderConfig) -> EncoderConfig:
        """The student must not be deeper than its teacher."""
        from harness.refusals import refuse_shared

        refuse_shared(config, "some")
        kept = choose_layers(len(config.layers), self.options.layers, self.options.choose)
        return config.with_layers(tuple(config.layers[index] for index in kept))

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """A copy of the chosen layers, with the teacher's embedding and head."""
        from harness.surgery import keep_layers

        count = len(teacher.config.layers)
        return keep_layers(teacher, choose_layers(count, self.options.layers, self.options.choose))

    def loss(self, step: Step) -> Tensor:
        """The weighted sum; it replaces the task loss."""
        from harness.distillation import logits_loss

        soft = logits_loss(step, temperature=self.options.temperature)
        return self.options.alpha * step.task_loss + (1 - self.options.alpha) * soft
