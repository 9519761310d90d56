"""embedding-factorization: the word embeddings become the product of a narrow table and a small matrix."""

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
    """E ≈ (V × r)(r × H): the truncated SVD of the fine-tuned table, then fine-tuned (factorized embedding, Lan et al.
    2020, section 3.1).
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
            "The paper pre-trains a factorized embedding from scratch, with the layers shared too. Here it begins as "
            "the best approximation of its rank to a fine-tuned table, and is fine-tuned further."
        ),
        touches=("embedding",),
        reduces=("disk", "parameters", "memory"),
        notes="Each token needs one more small matrix product, so FLOPs rise a little.",
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`rank` r of the factors."""

        rank: Annotated[int, Field(ge=1)] = 128

    suite = {"rank": (8, 16, 24)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape with a factorized embedding.

        Raises SkylineError: WRONG_SHAPE if the word embeddings are not a dense table; OUT_OF_RANGE if `rank` is not
        below the hidden size.
        """
        rank, hidden = self.options.rank, config.hidden_size
        refuse_other_words(config)
        if rank >= hidden:
            raise SkylineError(
                f"rank={rank} is not below the hidden size {hidden}; use a smaller one", Code.OUT_OF_RANGE
            )
        return Config.model_validate({**config.model_dump(), "embedding_rank": rank})

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy of the teacher with a factorized embedding."""
        return surgery.factorize_embedding(teacher, self.options.rank)
