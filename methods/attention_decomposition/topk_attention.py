"""topk-attention: each query attends only to the tokens with its k largest scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Method, Paper, options
from harness.common.lazy import lazy_imports
from harness.models import attention_kinds
from harness.models.shape_checks import refuse_other_attention

with lazy_imports():
    from harness.models import surgery


if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder


class TopKAttention(Method):
    """Explicit sparse attention (Zhao et al. 2019): each query's scores below its k-th largest become −∞ before the
    softmax; ties with the k-th stay. Replaces attention in every layer of a fine-tuned encoder, then fine-tunes it.
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
            "k-th largest is extra work. Rows of at most k tokens give the same result as full attention."
        ),
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`k`: number of scores that each query keeps."""

        k: Annotated[int, Field(ge=1)] = 8

    suite = {"k": (4, 8, 16)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape with top-k attention. Raises SkylineError if attention is restricted already."""
        refuse_other_attention(config)
        kind = attention_kinds.TopKAttention(k=self.options.k)
        return config.with_layers(
            tuple(layer.model_copy(update={"attention": kind}) for layer in config.layers)
        )

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy of the teacher with top-k attention in every layer."""
        return surgery.set_attention(teacher, attention_kinds.TopKAttention(k=self.options.k))
