"""embedding-factorization: the word embeddings become the product of a thin table and a small matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness import Card, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.config import EncoderConfig as Config
from harness.models.shape_checks import refuse_other_words

with lazy_imports():
    from harness.models import surgery


if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder


class EmbeddingFactorization(Method):
    """E ≈ (V × r)(r × H), from the truncated SVD of the fine-tuned table; then fine-tuned (the factorized
    embedding of Lan et al. 2020, section 3.1).
    """

    card = Card(
        id="embedding-factorization",
        title="Factorized embedding",
        family="matrix-decomposition",
        paper=Paper(
            title="ALBERT: A Lite BERT for Self-supervised Learning of Language Representations",
            authors="Lan, Chen, Goodman, Gimpel, Sharma, Soricut",
            year=2020,
            venue="ICLR",
            link="https://arxiv.org/abs/1909.11942",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The paper pre-trains a factorized embedding from scratch, with the layers shared too; here it is the "
            "nearest of its rank to a fine-tuned table, fine-tuned further."
        ),
        touches=("embedding",),
        reduces=("disk", "parameters", "memory"),
        notes=(
            "One more small product a token: FLOPs rise a little. MiniLM's table is nearly of full rank: 128 of 384 "
            "leave out a third of its squared length. That costs MRPC about a point, and half of the score on CoLA, "
            "which turns on single words."
        ),
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`rank` r of the table."""

        rank: Annotated[int, Field(ge=1)] = 128

    suite = {"rank": (8, 16, 24)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """The table must be dense, and wider than the rank."""
        rank, hidden = self.options.rank, config.hidden_size
        refuse_other_words(config)
        if rank >= hidden:
            raise SkylineError(
                f"rank={rank} is not below the hidden size {hidden}; use a smaller one", Code.OUT_OF_RANGE
            )
        return Config.model_validate({**config.model_dump(), "embedding_rank": rank})

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """The copy whose table is a product."""
        return surgery.factorize_embedding(teacher, self.options.rank)
