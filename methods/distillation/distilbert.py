"""distilbert: every other layer of the fine-tuned teacher learns its logits and the direction of its last states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Paper, options
from harness.common.lazy import lazy_imports
from harness.compression.distillation.layer_maps import Shallower, ShallowerOptions, refuse_other_states

with lazy_imports():
    import torch

    from harness.compression.distillation import losses


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.comparable import Baseline
    from harness.compression.context import Step
    from harness.models.config import EncoderConfig

SOURCE = "README of the released code, the pre-trained student fine-tuned"
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def cosine_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of 1 − cos(student, teacher) of states (b, n, H) over the tokens of `mask` (b, n) (Sanh et al.
    2019, section 2).
    """
    chosen = mask.bool()
    return (
        1
        - torch.nn.functional.cosine_similarity(
            student[chosen].float(), teacher[chosen].float(), dim=-1
        ).mean()
    )


class DistilBERT(Shallower):
    """DistilBERT in fine-tuning (Sanh et al. 2019): L = a · T² · KL(teacher ‖ student) + b · task loss + c · cosine
    loss.
    """

    card = Card(
        id="distilbert",
        title="DistilBERT (fine-tuning form)",
        family="distillation",
        paper=Paper(
            title="DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter",
            authors="Sanh, Debut, Chaumond, Wolf",
            year=2019,
            venue="NeurIPS EMC² Workshop",
            link="https://arxiv.org/abs/1910.01108",
        ),
        scope="task-agnostic",
        fidelity="variant",
        deviations=(
            "The paper distils during pre-training. Here the task's data replaces the corpus, the fine-tuned teacher's "
            "logits replace the masked-language model's, and the task loss replaces the masked-language loss. Segment "
            "embeddings and the pooler stay, and position embeddings are trained."
        ),
        touches=("attention_in", "attention", "attention_out", "ffn"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim("mnli", "dev", "accuracy", 82.1, SOURCE, options={"layers": 6}),
            Claim("qqp", "dev", "accuracy", 88.5, SOURCE, options={"layers": 6}),
            Claim("sst2", "dev", "accuracy", 91.3, SOURCE, options={"layers": 6}),
            Claim("qnli", "dev", "accuracy", 89.2, SOURCE, options={"layers": 6}),
        ),
        notes=(
            "The weights 5, 2 and 1 and T = 2 are the released code's; there, 2 is the weight of the masked-language "
            "loss."
        ),
    )
    replaces_task_loss = True
    needs = frozenset({"teacher_logits", "hidden_states"})

    @options
    class Options(ShallowerOptions):
        """`layers` of the student; `choose`: the teacher's layers that it starts from; the weights `kl` of the logits
        at `temperature` T, `task` of the task loss and `cosine` of the last states; `augment`: texts made of each
        example.
        """

        kl: Weight = 5.0
        task: Weight = 2.0
        cosine: Weight = 1.0
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0

        def __post_init__(self) -> None:
            """Raise ValueError if all weights are 0."""
            if self.kl == self.task == self.cosine == 0:
                raise ValueError("kl, task and cosine are all 0; give one a weight")

    suite = {"layers": (2, 1), "cosine": (1.0, 0.0)}

    def check_against(self, config: EncoderConfig, baseline: Baseline) -> None:
        """Raise SkylineError if the last states cannot be compared with the teacher's."""
        super().check_against(config, baseline)
        refuse_other_states(config, baseline.config)

    def loss(self, step: Step) -> Tensor:
        """Return the weighted sum (a scalar), which replaces the task loss."""
        o = self.options
        total = o.task * step.task_loss + o.kl * losses.logits_loss(step, temperature=o.temperature)
        if o.cosine == 0:
            return total
        ours, theirs = step.output.hidden_states, step.teacher_pass.hidden_states
        assert ours is not None
        assert theirs is not None
        return total + o.cosine * cosine_loss(ours[-1], theirs[-1], step.batch.attention_mask)
