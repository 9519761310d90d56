"""topk-attention: each query attends to the tokens of its largest scores alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Method, Paper, options
from harness.common.lazy import lazy_imports
from harness.models import config as shapes
from harness.models.shape_checks import refuse_other_attention

with lazy_imports():
    from harness.models import surgery


if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder


class TopKAttention(Method):
    """Explicit sparse attention (Zhao et al. 2019): of each query's scores those below the k-th largest become −∞
    before the softmax; what equals the k-th stays. In every layer, from fine-tuned weights, then fine-tuned further.
    """

    card = Card(
        id="topk-attention",
        title="Explicit sparse attention",
        family="attention-decomposition",
        paper=Paper(
            title="Explicit Sparse Transformer: Concentrated Attention Through Explicit Selection",
            authors="Zhao, Lin, Zhang, Ren, Su, Sun",
            year=2019,
            venue="arXiv",
            link="https://arxiv.org/abs/1912.11637",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The paper trains Transformers for translation, captions and language models from scratch; here the "
            "fine-tuned encoder's attention is replaced in all layers and fine-tuned further."
        ),
        touches=("attention",),
        reduces=(),
        notes=(
            "It saves nothing by itself: every score is computed before the smallest are left out, and finding the "
            "k-th largest is work on top. Rows of at most k tokens compute what they did."
        ),
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`k`: how many of each query's scores count."""

        k: Annotated[int, Field(ge=1)] = 8

    suite = {"k": (4, 8, 16)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Attention must be the full one."""
        refuse_other_attention(config)
        kind = shapes.TopKAttention(k=self.options.k)
        return config.with_layers(
            tuple(layer.model_copy(update={"attention": kind}) for layer in config.layers)
        )

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """The copy that attends so."""
        return surgery.set_attention(teacher, shapes.TopKAttention(k=self.options.k))
