"""local-attention: tokens attend to their neighbours, and to the first token."""

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


class LocalAttention(Method):
    """Sliding-window attention (Beltagy et al. 2020): each token attends to tokens at most `window` places away and to
    the first token, which attends to all. Starts from the fine-tuned weights and is fine-tuned further.
    """

    card = Card(
        id="local-attention",
        title="Local attention",
        family="attention-decomposition",
        paper=Paper(
            title="Longformer: The Long-Document Transformer",
            authors="Beltagy, Peters, Cohan",
            year=2020,
            venue="arXiv",
            link="https://arxiv.org/abs/2004.05150",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "Longformer is pre-trained further on documents of 4,096 tokens. Here attention is replaced in all layers "
            "of a fine-tuned encoder, which is fine-tuned further. Longformer's window is 512 tokens wide: window=256. "
            "Only the first token is global, and it uses the same maps as the others; Longformer has separate maps for "
            "global attention, and makes a question's tokens global too."
        ),
        touches=("attention",),
        reduces=("flops",),
        notes=(
            "Sequences are computed in blocks of `window` queries and three times as many keys if that is less work: "
            "from about 3 · window tokens on. Shorter ones are computed in full and masked, which saves nothing. At "
            "128 tokens attention is under 3 % of BERT's FLOPs, so no speed is claimed; the gain is for long "
            "sequences. A window must reach from a pair's first sentence into its second."
        ),
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`window`: largest distance in tokens at which a token is attended to, on either side."""

        window: Annotated[int, Field(ge=1)] = 16

    suite = {"window": (2, 4, 16)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape with local attention. Raises SkylineError if attention is restricted already."""
        refuse_other_attention(config)
        kind = attention_kinds.LocalAttention(window=self.options.window)
        return config.with_layers(
            tuple(layer.model_copy(update={"attention": kind}) for layer in config.layers)
        )

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy of the teacher with local attention in every layer."""
        return surgery.set_attention(teacher, attention_kinds.LocalAttention(window=self.options.window))
