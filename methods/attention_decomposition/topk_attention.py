"""topk-attention: each query attends to the tokens of its largest scores alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Method, Paper, options

if TYPE_CHECKING:
    from harness.config import EncoderConfig
    from harness.encoder import Encoder
    from harness.training import Context


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
    rewrites = frozenset({"the student"})

    @options
    class Options:
        """`k`: how many of each query's scores count."""

        k: Annotated[int, Field(ge=1)] = 8

    suite = {"k": (4, 8, 16)}

    def check(self, config: EncoderConfig) -> EncoderConfig:
        """Attention must be the full one."""
        from harness.config import TopKAttention
        from harness.refusals import refuse_other_attention

        refuse_other_attention(config)
        kind = TopKAttention(k=self.options.k)
        return config.with_layers(
            tuple(layer.model_copy(update={"attention": kind}) for layer in config.layers)
        )

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """The copy that attends so."""
        from harness.config import TopKAttention
        from harness.surgery import set_attention

        return set_attention(teacher, TopKAttention(k=self.options.k))
