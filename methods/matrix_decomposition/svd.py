"""svd: every matrix of the layers becomes a product of two smaller ones, then learns the features of the original."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.config import MATRICES, matrix_shape
from harness.models.shape_checks import refuse_unlike

with lazy_imports():
    import torch

    from harness.compression.distillation import features as distillation_features
    from harness.compression.distillation import losses as distillation_losses
    from harness.models import surgery


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.comparable import Baseline
    from harness.compression.context import Context, Step
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder


class SVD(Method):
    """Truncated SVD of the fine-tuned matrices, then fine-tuning with feature distillation (Noach & Goldberg 2020).

    L = task loss + λ · [mean of MSE(features) + T² · KL(teacher ‖ student)]. The features are queries, keys, values,
    attention scores, and the outputs of attention and of both feed-forward maps, before the next non-linearity.
    """

    card = Card(
        id="svd",
        title="SVD of weight matrices",
        family="matrix-decomposition",
        paper=Paper(
            title="Compressing Pre-trained Language Models by Matrix Decomposition",
            authors="Noach, Goldberg",
            year=2020,
            venue="AACL-IJCNLP",
            link="https://aclanthology.org/2020.aacl-main.88/",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The feature losses are averaged with equal weights; the paper may weigh them otherwise. The rank in the "
            "survey's row is near 250; 245 is quoted from memory."
        ),
        touches=("attention_in", "attention_out", "ffn"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim("mnli", "unknown", "accuracy", 84.8, "Ganesh et al. 2021, Table 1", False, {"rank": 245}),
            Claim("qqp", "unknown", "accuracy", 89.7, "Ganesh et al. 2021, Table 1", False, {"rank": 245}),
            Claim("sst2", "unknown", "accuracy", 92.4, "Ganesh et al. 2021, Table 1", False, {"rank": 245}),
        ),
        notes=(
            "Two small products take less arithmetic than one large product, but more calls, so latency falls less "
            "than FLOPs."
        ),
    )
    needs = frozenset({"teacher_logits", "attentions"})
    decides = frozenset({"the student"})

    @options
    class Options:
        """`rank` of every matrix; `weight` λ of the distillation; `temperature` T of the logits."""

        rank: Annotated[int, Field(ge=1)] = 128
        weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    suite = {"rank": (8, 16, 24)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape with every matrix of the layers factorized.

        Raises SkylineError: WRONG_SHAPE if a matrix is factorized already; OUT_OF_RANGE if `rank` exceeds the smaller
        side of a matrix.
        """
        rank, layers = self.options.rank, []
        for index, layer in enumerate(config.layers):
            present = layer.present()
            if taken := [matrix for matrix in present if matrix in layer.ranks]:
                raise SkylineError(
                    f"{taken[0]} of layer {index} is factorized already; leave one of them out",
                    Code.WRONG_SHAPE,
                )
            for matrix in present:
                side = min(matrix_shape(config, layer, matrix))
                if rank > side:
                    raise SkylineError(
                        f"rank={rank} exceeds the smaller side of {matrix} in layer {index}, {side}; "
                        "use a smaller rank",
                        Code.OUT_OF_RANGE,
                    )
            layers.append(layer.model_copy(update={"ranks": dict.fromkeys(present, rank)}))
        return config.with_layers(tuple(layers))

    def check_against(self, config: EncoderConfig, baseline: Baseline) -> None:
        """Raise SkylineError (WRONG_SHAPE) if `weight` is not 0 and features cannot be compared with the teacher's."""
        if self.options.weight:
            refuse_unlike(config, baseline.config, "factorize first, or use svd:weight=0", inner=True)

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy of the teacher with factorized matrices."""
        return surgery.factorize(teacher, dict.fromkeys(MATRICES, self.options.rank))

    def prepare(self, student: Encoder, context: Context) -> None:
        """Attach hooks that read the features of student and teacher."""
        self.ours, self.theirs = (
            distillation_features.Features(student),
            distillation_features.Features(context.teacher),
        )

    def loss(self, step: Step) -> Tensor | None:
        """Return λ · the distillation loss (a scalar), which is added to the task loss; None if λ is 0."""
        if self.options.weight == 0:
            return None
        maps, teacher = step.output.attentions, step.teacher_output.attentions
        assert maps is not None
        assert teacher is not None
        mask = step.batch.attention_mask
        losses = list(
            distillation_features.feature_losses(self.ours.take(), self.theirs.take(), mask).values()
        )
        losses.append(distillation_losses.attention_score_losses(maps, teacher, mask).mean())
        features = torch.stack(losses).mean()
        loss: Tensor = features + distillation_losses.logits_loss(step, temperature=self.options.temperature)
        return self.options.weight * loss

    def finish(self, student: Encoder, context: Context) -> None:
        """Remove the hooks."""
        self.ours.close()
        self.theirs.close()
