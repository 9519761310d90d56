"""local-attention: tokens attend to their neighbours, and to the first token."""

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


class LocalAttention(Method):
    """Sliding-window attention (Beltagy et al. 2020): each token attends to those at most `window` places away and to
    the first one, which attends to all. From the fine-tuned weights, then fine-tuned further.
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
            "Longformer goes on pre-training for documents of 4,096 tokens; here a fine-tuned encoder's attention is "
            "replaced in all layers and fine-tuned further. Its window is 512 tokens wide, that is window=256. The "
            "first token alone is global, and by the same maps as the others, where Longformer has maps of its own for "
            "global attention and makes a question's tokens global too."
        ),
        touches=("attention",),
        reduces=("flops",),
        notes=(
            "Sequences are computed in blocks of `window` queries and three times as many keys where that is less "
            "work: from about 3 · window tokens on. Shorter ones are computed in full and masked, which saves nothing. "
            "At 128 tokens attention is under 3 % of BERT's FLOPs, so no speed is claimed; the gain is for long "
            "sequences. A window must reach from a pair's first sentence into its second: MRPC's have 22 words "
            "each, and MiniLM falls there from 82.1 to 63.2 with 16 places (while it learns the training rows by "
            "heart), but keeps 78.7 with 48."
        ),
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`window`: how many places away a token is still attended to, on either side."""

        window: Annotated[int, Field(ge=1)] = 16

    suite = {"window": (2, 4, 16)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Attention must be the full one."""
        refuse_other_attention(config)
        kind = shapes.LocalAttention(window=self.options.window)
        return config.with_layers(
            tuple(layer.model_copy(update={"attention": kind}) for layer in config.layers)
        )

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """The copy that attends so."""
        return surgery.set_attention(teacher, shapes.LocalAttention(window=self.options.window))
