"""deformer: the lower layers process each segment alone, so their states can be computed in advance for known texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Claim, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.attention_kinds import SegmentAttention
from harness.models.config import EncoderConfig
from harness.models.shape_checks import refuse_other_attention, refuse_unlike

with lazy_imports():
    import torch

    from harness.compression.distillation import losses as distillation_losses
    from harness.models import surgery
    from harness.models.encoder import segment_cache


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.comparable import Baseline
    from harness.compression.context import Context, Step
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder


class DeFormer(Method):
    """DeFormer (Cao et al. 2020): in the lower layers tokens attend to their own segment, in the upper layers to both.
    The student learns the task, the full-attention teacher's logits, and its hidden states in the upper layers.

    L = task loss + α · T² · KL(teacher ‖ student) + β · mean of MSE(upper hidden states, pooled state).
    """

    card = Card(
        id="deformer",
        title="DeFormer",
        family="attention-decomposition",
        paper=Paper(
            title="DeFormer: Decomposing Pre-trained Transformers for Faster Question Answering",
            authors="Cao, Trivedi, Balasubramanian, Balasubramanian",
            year=2020,
            venue="ACL",
            link="https://aclanthology.org/2020.acl-main.411/",
        ),
        scope="task-specific",
        fidelity="faithful",
        deviations=(
            "Padding is left out of the losses. The second segment's positions begin at 0 again, as in the released "
            "code, but segments are not padded to fixed lengths."
        ),
        touches=("embedding", "attention"),
        reduces=(),
        claims=(
            Claim(
                "squad",
                "dev",
                "f1",
                86.996,
                "the released code's README, without distillation",
                options={"layers": 9, "alpha": 0.0, "beta": 0.0},
            ),
            Claim("squad", "dev", "f1", 87.1, "Ganesh et al. 2021, Table 1", False, {"layers": 9}),
            Claim("mnli", "unknown", "accuracy", 82.6, "Ganesh et al. 2021, Table 1", False, {"layers": 9}),
            Claim("qqp", "unknown", "accuracy", 90.3, "Ganesh et al. 2021, Table 1", False, {"layers": 9}),
        ),
        notes=(
            "On pairs the artifact does the same work as the baseline: attention is only masked to segments, and "
            "skipping the masked part would save under 1 % at 128 tokens. The published speed needs second segments "
            "whose lower states were computed in advance (`encoder.segment_cache` computes the same logits from such "
            "states, and the FLOPs of both ways): BERT-base with nine such layers keeps 0.62 of its FLOPs at 64 + 64 "
            "tokens, and 0.29 at 20 + 300. The record's figure 'cached share of FLOPs' is this share at the mean "
            "lengths of the training pairs. On single sentences nothing can be saved."
        ),
    )
    needs = frozenset({"teacher_logits", "hidden_states"})
    decides = frozenset({"the student"})

    @options
    class Options:
        """`layers`: number of lower layers that process segments separately; `alpha`: weight of the loss on the
        teacher's logits at `temperature` T; `beta`: weight of the loss on its hidden states.
        """

        layers: Annotated[int, Field(ge=1)] = 4
        alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
        beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0

    suite = {"layers": (3, 2, 1), "beta": (1.0, 0.0)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape whose lower layers attend within segments.

        Raises SkylineError: OUT_OF_RANGE if `layers` leaves no upper layer, or splits layers that share weights;
        WRONG_SHAPE if attention is restricted already, or if the encoder has only one segment.
        """
        refuse_other_attention(config)
        wanted, count = self.options.layers, len(config.layers)
        if wanted >= count:
            last = f"use {count - 1} or fewer" if count > 1 else "use a deeper encoder"
            raise SkylineError(
                f"layers={wanted} leaves none of {count} layers to read both segments; {last}",
                Code.OUT_OF_RANGE,
            )
        if any(
            layer.shares_with is not None and layer.shares_with < wanted for layer in config.layers[wanted:]
        ):
            raise SkylineError(
                f"layers={wanted} separates layers that share weights; share only lower layers or only upper layers",
                Code.OUT_OF_RANGE,
            )
        if config.segments < 2:
            raise SkylineError(
                "the encoder knows only one segment; use an encoder with two segments",
                Code.WRONG_SHAPE,
            )
        own = EncoderConfig.model_validate({**config.model_dump(), "segment_positions": "own"})
        lower = [
            layer.model_copy(update={"attention": SegmentAttention()}) for layer in config.layers[:wanted]
        ]
        return own.with_layers((*lower, *config.layers[wanted:]))

    def check_against(self, config: EncoderConfig, baseline: Baseline) -> None:
        """Raise SkylineError if `beta` is not 0 and hidden states cannot be compared with the teacher's."""
        if self.options.beta:
            refuse_unlike(config, baseline.config, "decompose first, or use deformer:beta=0")

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy of the teacher whose lower layers attend within segments."""
        return surgery.set_attention(
            surgery.own_segment_positions(teacher), SegmentAttention(), range(self.options.layers)
        )

    def prepare(self, student: Encoder, context: Context) -> None:
        """Keep the student: the losses need its pooler."""
        self.model = student

    def loss(self, step: Step) -> Tensor:
        """Return the distillation losses (a scalar), which are added to the task loss."""
        o, loss = self.options, step.task_loss.new_zeros(())
        if o.alpha:
            loss = loss + o.alpha * distillation_losses.logits_loss(step, temperature=o.temperature)
        if o.beta:
            ours, theirs = step.output.hidden_states, step.teacher_output.hidden_states
            assert ours is not None
            assert theirs is not None
            # hidden_states: layers + 1 tensors (b, n, H), the embedding's output first.
            upper = slice(o.layers + 1, None)
            losses = distillation_losses.hidden_losses(ours[upper], theirs[upper], step.batch.attention_mask)
            present = step.batch.attention_mask.bool()
            losses = self._with_pooled(losses, ours[-1], theirs[-1], present, step.teacher)
            loss = loss + o.beta * losses.mean()
        return loss

    def _with_pooled(
        self, losses: Tensor, ours: Tensor, theirs: Tensor, present: Tensor, teacher: Encoder
    ) -> Tensor:
        """Append the MSE of the pooled last states (b, n, H) to `losses` (k,), if both models have a pooler."""
        mine, other = self.model.head, teacher.head
        if mine.pooler is None or other.pooler is None:
            return losses
        with torch.no_grad():
            target = other.pooled(theirs, present).float()  # (b, H)
        pooled = mine.pooled(ours, present).float()  # (b, H)
        return torch.cat([losses, torch.nn.functional.mse_loss(pooled, target)[None]])

    def finish(self, student: Encoder, context: Context) -> None:
        """Record the share of FLOPs left with cached second segments, at the mean lengths of training pairs."""
        del self.model
        firsts, seconds, rows = 0, 0, 0
        for batch, _ in context.batches(student, 32, 16, "deformer"):
            second = batch.token_type_ids * batch.attention_mask
            firsts, seconds = firsts + int((batch.attention_mask - second).sum()), seconds + int(second.sum())
            rows += len(batch)
        if not seconds or student.config.exit_rule is not None:
            return
        student.to("cpu").eval()
        plain, cached = segment_cache.segment_flops(
            student, round(firsts / rows), max(1, round(seconds / rows))
        )
        context.figures["cached share of FLOPs"] = cached.total.flops / plain.total.flops
