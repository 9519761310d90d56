"""minilm: the student learns the attention and value relations of the teacher's last layer, then is fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Paper, options
from harness.common.lazy import lazy_imports
from harness.compression.distillation.layer_maps import (
    Shallower,
    ShallowerOptions,
    choose_layers,
    refuse_other_maps,
    refuse_other_tokens_kept,
)

with lazy_imports():
    from harness.compression import training
    from harness.compression.distillation import features as distillation_features
    from harness.compression.distillation import losses


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.card import Need
    from harness.compression.comparable import Baseline
    from harness.compression.context import Context, Step
    from harness.models.config import EncoderConfig, Matrix
    from harness.models.encoder.encoder import Encoder

READ: tuple[Matrix, ...] = ("query", "key", "value")


class MiniLM(Shallower):
    """Deep self-attention distillation in fine-tuning (Wang et al. 2020, eq. 3-6): first L = L_AT + L_VR of the last
    layer on the task's texts, then L = (1 − λ) · task loss + λ · T² · KL(teacher ‖ student).
    """

    card = Card(
        id="minilm",
        title="MiniLM (fine-tuning form)",
        family="distillation",
        paper=Paper(
            title=(
                "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers"
            ),
            authors="Wang, Wei, Dong, Bao, Yang, Zhou",
            year=2020,
            venue="NeurIPS",
            link="https://arxiv.org/abs/2002.10957",
        ),
        scope="task-agnostic",
        fidelity="variant",
        deviations=(
            "The paper distils a pre-trained teacher on its pre-training corpus into a student with random weights. "
            "Here the fine-tuned teacher is distilled on the task's texts into a student that begins with some of its "
            "layers. Teacher assistants are left out. The distillation code was not released."
        ),
        touches=("attention_in", "attention", "attention_out", "ffn"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim("mnli", "dev", "accuracy", 84.0, "6 layers of 768, remembered", False, {"layers": 6}),
            Claim("qqp", "dev", "accuracy", 91.0, "6 layers of 768, remembered", False, {"layers": 6}),
            Claim("sst2", "dev", "accuracy", 92.0, "6 layers of 768, remembered", False, {"layers": 6}),
        ),
        notes=(
            "The first training does not change the classifier, nor the last layer after its attention: the teacher's "
            "weights stay there. Only the last layers' relations are compared."
        ),
    )
    replaces_task_loss = True
    _relating = True

    @options
    class Options(ShallowerOptions):
        """`layers` of the student; `choose`: the teacher's layers that it starts from; `relation_share`: share of the
        epochs that the first training takes; `logits`: weight λ of the teacher's logits in the second, at
        `temperature` T; `augment`: texts made of each example.
        """

        relation_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
        logits: Annotated[float, Field(ge=0, le=1)] = 0.0
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0

    suite = {"layers": (2, 1), "choose": ("spread", "last"), "logits": (0.5, 0.0), "relation_share": (0.5,)}

    @property
    def own_share(self) -> float:
        """The share of the first training."""
        return float(self.options.relation_share)

    @property
    def needs(self) -> frozenset[Need]:
        """Hidden states in the first training (hooks read queries, keys and values), logits in the second if λ > 0."""
        if self._relating:
            return frozenset({"hidden_states"})
        return frozenset({"teacher_logits"} if self.options.logits else ())

    def check_against(self, config: EncoderConfig, baseline: Baseline) -> None:
        """Raise SkylineError if the last layers of student and teacher cannot be compared."""
        super().check_against(config, baseline)
        refuse_other_tokens_kept(config, baseline.config)
        kept = choose_layers(len(config.layers), self.options.layers, self.options.choose)
        last, theirs = config.layers[kept[-1]], baseline.config.layers
        refuse_other_maps(last, theirs[-1], len(kept) - 1, len(theirs) - 1)

    def prepare(self, student: Encoder, context: Context) -> None:
        """Run the first training."""
        teacher = context.teacher
        self.ends = len(student.layers) - 1, len(teacher.layers) - 1
        self.heads = student.config.layers[-1].heads
        self.ours, self.theirs = (
            distillation_features.Features(model, {end}, READ)
            for model, end in zip((student, teacher), self.ends, strict=True)
        )
        name = "minilm attention and values"
        try:
            training.train_round(student, [self], context, name, share=self.own_share, patience=None)
        finally:
            self.ours.close()
            self.theirs.close()
        self._relating = False

    def loss(self, step: Step) -> Tensor:
        """Return the loss of the current training (a scalar), which replaces the task loss."""
        o, mask = self.options, step.batch.attention_mask
        if not self._relating:
            if o.logits == 0:
                return step.task_loss
            return (1 - o.logits) * step.task_loss + o.logits * losses.logits_loss(
                step, temperature=o.temperature
            )
        _ = step.teacher_pass  # runs the teacher; the hooks read this pass
        sides = []
        for features, end in zip((self.ours, self.theirs), self.ends, strict=True):
            read = features.take()
            query, key, value = (read[end, matrix] for matrix in READ)
            sides.append(
                [
                    distillation_features.relation(*pair, self.heads, mask)
                    for pair in ((query, key), (value, value))
                ]
            )
        return losses.attention_divergences(*sides, mask).sum()
