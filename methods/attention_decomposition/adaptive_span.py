"""adaptive-span: every head learns how far away it attends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.attention_kinds import SpanAttention
from harness.models.shape_checks import refuse_other_attention

with lazy_imports():
    import torch

    from harness.models import surgery
    from harness.models.encoder import attention as encoder_attention


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context, Step
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

SPANS = ".attention.spans"
"""Names of the parameters that hold spans end with this."""


class AdaptiveSpan(Method):
    """Adaptive attention span (Sukhbaatar et al. 2019, section 2.2): each head's attention probabilities are multiplied
    by m(x) = clamp((R + z − x) / R, 0, 1) of the distance x and renormalised.

    The span z of each head is trained with the fine-tuned weights. L = task loss + λ · mean(z).
    """

    card = Card(
        id="adaptive-span",
        title="Adaptive attention span",
        family="attention-decomposition",
        paper=Paper(
            title="Adaptive Attention Span in Transformers",
            authors="Sukhbaatar, Grave, Bojanowski, Joulin",
            year=2019,
            venue="ACL",
            link="https://aclanthology.org/P19-1032/",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The paper trains character language models from scratch. They attend to earlier characters only, and "
            "spans begin at 0. Here a fine-tuned encoder attends to both sides, and spans begin at the length of the "
            "task's longest sequence, which changes nothing at first (unless `start` is given). Spans are trained in "
            "tokens at their own rate; the released code trains them as shares of the longest span, at the rate of all "
            "other weights. Spans of whole layers that depend on the input are left out. EdgeBERT's released code "
            "masks by a key's place in the padded row; here the mask depends on distance, as published."
        ),
        touches=("attention",),
        reduces=("flops",),
        notes=(
            "A span of 0 does not switch a head off: each token attends to itself and, with less weight, to tokens "
            "fewer than `ramp` places away. Spans are stored as trained, so the artifact computes what training saw. "
            "A head's window is the whole number of tokens with a weight above 0. Heads whose window is short for a "
            "sequence are computed in blocks, three windows of keys for one window of queries; with ramp=32 this "
            "begins at 108 tokens at the earliest. All other heads are computed in full, which saves nothing. At 128 "
            "tokens attention is under 3 % of BERT's FLOPs, so no speed is claimed. EdgeBERT's ramp of 256 never "
            "reaches 0 in its 128 tokens. The record's figures are the mean span over all heads and of each layer, and "
            "the number of heads with a span of 0."
        ),
    )
    decides = frozenset({"the student", "the student's layers"})

    @options
    class Options:
        """`ramp` R in tokens; `start`, the initial span in tokens (default and maximum: the task's longest sequence);
        `penalty` λ on the mean span; `rate`, the spans' peak learning rate.
        """

        ramp: Annotated[int, Field(ge=1, le=4096)] = 32
        start: Annotated[int, Field(ge=0)] | None = None
        penalty: Annotated[float, Field(ge=0, le=1e3)] = 1e-3
        rate: Annotated[float, Field(gt=0, le=1e3)] = 1.0

    suite = {"ramp": (2, 32), "start": (0, 16), "penalty": (1e-3, 0.0)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape with a span of unknown length for each head.

        Raises SkylineError (WRONG_SHAPE) if a layer's attention is restricted already, or if no layer has heads.
        """
        refuse_other_attention(config)
        if not any(layer.heads for layer in config.layers):
            raise SkylineError(
                "no layer has heads; use an encoder with attention heads",
                Code.WRONG_SHAPE,
            )
        layers = []
        for index, layer in enumerate(config.layers):
            owner = index if layer.shares_with is None else layer.shares_with
            # The spans are learned later. The placeholder only says that layers with weights of their own differ.
            spans = (float(owner),) * layer.heads
            kind = SpanAttention(ramp=self.options.ramp, spans=spans) if spans else None
            layers.append(layer.model_copy(update={"attention": kind}))
        return config.with_layers(tuple(layers))

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy of the teacher whose heads have the initial span."""
        o, student = self.options, teacher
        self.longest = context.task.length_within(teacher.config.positions)
        start = float(self.longest if o.start is None else min(o.start, self.longest))
        heads = [layer.heads for layer in teacher.config.layers]
        for count in sorted({*heads} - {0}):
            kind = SpanAttention(ramp=o.ramp, spans=(start,) * count)
            student = surgery.set_attention(student, kind, [i for i, own in enumerate(heads) if own == count])
        return student

    def prepare(self, student: Encoder, context: Context) -> None:
        """Make the spans trainable."""
        self.windows = soft_windows(student)
        for attention in self.windows.values():
            attention.learn()

    def learning_rate(self, name: str) -> float | None:
        """Return `rate` for the spans, None for other parameters."""
        return self.options.rate if name.endswith(SPANS) else None

    def _spans(self) -> list[Tensor]:
        return [attention.spans for attention in self.windows.values() if attention.spans is not None]

    def loss(self, step: Step) -> Tensor | None:
        """Return λ · the mean of all spans (a scalar), or None without a penalty."""
        return self.options.penalty * torch.cat(self._spans()).mean() if self.options.penalty else None

    def step(self, student: Encoder, progress: float) -> None:
        """Clip the spans to [0, longest sequence]."""
        for spans in self._spans():
            spans.data.clamp_(0.0, self.longest)

    def finish(self, student: Encoder, context: Context) -> None:
        """Write the learned spans into the configuration and the figures."""
        learned = {}
        for path, attention in self.windows.items():
            attention.settle()
            learned[int(path.split(".")[1])] = attention.kind
            # Another method of the stage may have chosen how every parameter is stored.
            student.storage.codecs.pop(f"{path}.spans", None)
        layers = []
        for index, layer in enumerate(student.config.layers):
            owner = index if layer.shares_with is None else layer.shares_with
            layers.append(layer.model_copy(update={"attention": learned.get(owner)}))
        student.config = student.config.with_layers(tuple(layers))
        every = [span for kind in learned.values() for span in kind.spans]
        context.figures["mean span"] = sum(every) / len(every)
        context.figures["heads of span 0"] = float(every.count(0.0))
        for index, kind in learned.items():
            context.figures[f"mean span in layer {index}"] = sum(kind.spans) / len(kind.spans)


def soft_windows(model: Encoder) -> dict[str, encoder_attention.SoftWindows]:
    """Return the attention modules with windows by path. Layers that share weights share one module."""
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, encoder_attention.SoftWindows)
    }
