"""adaptive-span: every head learns how far it looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.config import SpanAttention
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
"""How the name of a parameter ends that holds spans."""


class AdaptiveSpan(Method):
    """Adaptive attention span (Sukhbaatar et al. 2019, section 2.2): each head's attention probabilities are multiplied
    by m(x) = clamp((R + z − x) / R, 0, 1) of the distance x and renormalised. Its span z is trained, with λ · mean(z)
    beside the task loss, from the fine-tuned weights.
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
            "The paper trains language models of characters from scratch, which look back alone, and spans begin at 0; "
            "here a fine-tuned encoder looks to both sides, and spans begin at the task's longest sequence, which "
            "changes nothing yet, unless `start` says otherwise. Spans are trained in tokens at a rate of their own; "
            "the released code trains them as shares of the longest with all other weights. Spans of whole layers "
            "that depend on the input are left out. EdgeBERT's released code goes by a key's place in the padded row "
            "instead of by distance; here it is by distance, as published."
        ),
        touches=("attention",),
        reduces=("flops",),
        notes=(
            "A span of 0 does not switch a head off: it attends to itself, and with less weight to tokens fewer than "
            "`ramp` places away. Spans are stored as trained, so that the artifact computes what training saw; a "
            "head's window, the tokens of a weight above 0, is whole. Heads whose window is short for a sequence are "
            "computed in blocks, three windows of keys for one of queries, with ramp=32 from 108 tokens on at the "
            "earliest; all others in full, which saves nothing. At 128 tokens attention is under 3 % of BERT's FLOPs, "
            "so no speed is claimed. EdgeBERT's ramp of 256 never reaches 0 in its 128 tokens. The record's figures "
            "give the mean span, in all and of each layer, and the heads of span 0."
        ),
    )
    decides = frozenset({"the student", "the student's layers"})

    @options
    class Options:
        """`ramp` R; `start`, the spans to begin with (the task's longest sequence, where it is not given or longer),
        `penalty` λ on their mean, and `rate`, their peak learning rate, all in tokens.
        """

        ramp: Annotated[int, Field(ge=1, le=4096)] = 32
        start: Annotated[int, Field(ge=0)] | None = None
        penalty: Annotated[float, Field(ge=0, le=1e3)] = 1e-3
        rate: Annotated[float, Field(gt=0, le=1e3)] = 1.0

    suite = {"ramp": (2, 32), "start": (0, 16), "penalty": (1e-3, 0.0)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Attention must be there, and the full one."""
        refuse_other_attention(config)
        if not any(layer.heads for layer in config.layers):
            raise SkylineError(
                "no layer has heads whose span could be learned; use an encoder that has some",
                Code.WRONG_SHAPE,
            )
        layers = []
        for index, layer in enumerate(config.layers):
            owner = index if layer.shares_with is None else layer.shares_with
            # What is learned is not known yet, but that layers of their own weights will differ in it.
            spans = (float(owner),) * layer.heads
            kind = SpanAttention(ramp=self.options.ramp, spans=spans) if spans else None
            layers.append(layer.model_copy(update={"attention": kind}))
        return config.with_layers(tuple(layers))

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """The copy that attends through windows."""
        o, student = self.options, teacher
        self.longest = context.task.length_within(teacher.config.positions)
        start = float(self.longest if o.start is None else min(o.start, self.longest))
        heads = [layer.heads for layer in teacher.config.layers]
        for count in sorted({*heads} - {0}):
            kind = SpanAttention(ramp=o.ramp, spans=(start,) * count)
            student = surgery.set_attention(student, kind, [i for i, own in enumerate(heads) if own == count])
        return student

    def prepare(self, student: Encoder, context: Context) -> None:
        """Let the spans be trained."""
        self.windows = soft_windows(student)
        for attention in self.windows.values():
            attention.learn()

    def learning_rate(self, name: str) -> float | None:
        """Of the spans."""
        return self.options.rate if name.endswith(SPANS) else None

    def _spans(self) -> list[Tensor]:
        return [attention.spans for attention in self.windows.values() if attention.spans is not None]

    def loss(self, step: Step) -> Tensor | None:
        """The penalty on the mean of all spans."""
        return self.options.penalty * torch.cat(self._spans()).mean() if self.options.penalty else None

    def step(self, student: Encoder, progress: float) -> None:
        """No span below 0, nor above the longest sequence."""
        for spans in self._spans():
            spans.data.clamp_(0.0, self.longest)

    def finish(self, student: Encoder, context: Context) -> None:
        """Put what was learned into the configuration."""
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
    """The attention modules with windows, by path; those of shared layers once."""
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, encoder_attention.SoftWindows)
    }
