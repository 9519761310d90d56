"""ternarybert: three values for each weight, learned from the full-precision teacher's attention and hidden states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness import Card, Claim, Method, Paper, options
from harness.common.lazy import lazy_imports
from harness.models.shape_checks import refuse_unlike

with lazy_imports():
    from harness.compression.distillation import losses
    from harness.compression.quantization import fake_quantization
    from harness.models import codecs


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.comparable import Baseline
    from harness.compression.context import Context, Step
    from harness.models.codecs import Stage
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

WORDS = "embedding.word.weight"
CLIP = 2.5
"""Weights with |w| above this get no gradient, as in the released code."""


class TernaryBERT(Method):
    """Distillation-aware ternarization (Zhang et al. 2020): weights are −α, 0 or α, with one α for each matrix (for
    each row in the word embeddings); inputs are int8.

    L = soft cross-entropy of the logits + Σ MSE(attention scores) + Σ MSE(hidden states, the embedding's included).
    """

    card = Card(
        id="ternarybert",
        title="TernaryBERT",
        family="quantization",
        paper=Paper(
            title="TernaryBERT: Distillation-aware Ultra-low Bit BERT",
            authors="Zhang, Hou, Yin, Shang, Chen, Jiang, Liu",
            year=2020,
            venue="EMNLP",
            link="https://arxiv.org/abs/2009.12812",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The released code trains on augmented data; here there is none. Only the inputs of linear maps are "
            "rounded to int8, not the products inside attention, and only in training: the artifact stores two bits a "
            "weight, decodes them and executes in float32. Squared errors are means over tokens without padding. "
            "Learning rate and epochs are those of the budget; the released code trains 3 epochs at 2e-5."
        ),
        touches=("embedding", "attention_in", "attention_out", "ffn"),
        reduces=("disk",),
        claims=(
            Claim(
                "mnli",
                "dev",
                "accuracy",
                83.3,
                "without augmented data, remembered",
                False,
                {"distillation": "all", "embeddings": True, "activations": True},
            ),
        ),
        notes=(
            "Position and segment embeddings, biases, norms, pooler and classifier stay float32. The artifact has the "
            "same codes as the training; the published export ternarizes embeddings by another rule than its training."
        ),
    )
    replaces_task_loss = True
    needs = frozenset({"teacher_logits", "hidden_states", "attentions"})
    decides = frozenset({"how weights are stored"})
    must_be_last = True

    @options
    class Options:
        """`distillation`: from logits, attention and hidden states (all); from logits; or none, with the task loss.
        `embeddings`: ternary word embeddings too; `activations`: round inputs to int8 in training.
        """

        distillation: Literal["all", "logits", "none"] = "all"
        embeddings: bool = True
        activations: bool = True

    suite = {"distillation": ("all", "logits", "none"), "embeddings": (True, False)}

    def check_against(self, config: EncoderConfig, baseline: Baseline) -> None:
        """Raise SkylineError if distillation=all and the layers cannot be compared with the teacher's."""
        if self.options.distillation == "all":
            refuse_unlike(config, baseline.config, "use ternarybert:distillation=logits")

    def prepare(self, student: Encoder, context: Context) -> None:
        """Attach rounding of weights and inputs to the forward pass."""
        stages: dict[str, Stage] = dict.fromkeys(student.matrix_names(), codecs.Ternary())
        if self.options.embeddings and WORDS in fake_quantization.embedding_tables(student):
            stages[WORDS] = codecs.Ternary("row")
        self.training = fake_quantization.QuantizedTraining(
            student, stages, dynamic=self.options.activations, clip=CLIP
        )

    def loss(self, step: Step) -> Tensor:
        """Return the distillation loss (a scalar), which replaces the task loss."""
        if self.options.distillation == "none":
            return step.task_loss
        if step.kind == "regression":
            total = losses.logits_loss(step)
        else:
            total = losses.soft_cross_entropy(
                *losses.logit_rows(step, step.output.logits, step.teacher_logits)
            )
        if self.options.distillation == "logits":
            return total
        ours, theirs, mask = step.output, step.teacher_output, step.batch.attention_mask
        assert ours.hidden_states is not None
        assert theirs.hidden_states is not None
        assert ours.attentions is not None
        assert theirs.attentions is not None
        states = losses.hidden_losses(ours.hidden_states, theirs.hidden_states, mask)
        return (
            total
            + losses.attention_score_losses(ours.attentions, theirs.attentions, mask).sum()
            + states.sum()
        )

    def finish(self, student: Encoder, context: Context) -> None:
        """Choose codecs of two bits a weight."""
        self.training.store(student)
