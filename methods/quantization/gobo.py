"""gobo: three bits for nearly all weights of a fine-tuned encoder, without data or training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness import Card, Claim, Method, Paper, options
from harness.common.lazy import lazy_imports

with lazy_imports():
    import torch

    from harness.models import codecs as models_codecs


if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.encoder.encoder import Encoder


class GOBO(Method):
    """GOBO (Zadeh et al. 2020, section IV): outliers stay float32, all other weights become indices into a table of 2^b
    values for each matrix. `harness.models.codecs.dictionary` has the algorithm.
    """

    card = Card(
        id="gobo",
        title="GOBO",
        family="quantization",
        paper=Paper(
            title="GOBO: Quantizing Attention-Based NLP Models for Low Latency and Energy Efficient Inference",
            authors="Zadeh, Edo, Awad, Moshovos",
            year=2020,
            venue="MICRO",
            link="https://arxiv.org/abs/2005.03842",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The threshold of outliers (log-density below -4) and the start from equally populated bins are quoted "
            "from memory. The paper's accelerator is not available: weights are decoded to float32 when loaded."
        ),
        touches=("embedding", "attention_in", "attention_out", "ffn", "head"),
        reduces=("disk",),
        claims=(
            Claim(
                "mnli",
                "unknown",
                "accuracy",
                83.7,
                "Ganesh et al. 2021, Table 1",
                False,
                {"bits": 3, "embedding_bits": 4, "outliers": "kept"},
            ),
        ),
        notes="The artifact's bytes include the positions of outliers (32 bits each) and the tables.",
    )
    trains = False
    decides = frozenset({"how weights are stored"})

    @options
    class Options:
        """`bits` of a weight in the linear maps; `embedding_bits` in the word embeddings (0: float32); `outliers`: kept
        in float32, or none.
        """

        bits: Annotated[int, Field(ge=1, le=8)] = 3
        embedding_bits: Annotated[int, Field(ge=0, le=8)] = 4
        outliers: Literal["kept", "none"] = "kept"

    suite = {"bits": (3, 4), "embedding_bits": (4, 0), "outliers": ("kept", "none")}

    def finish(self, student: Encoder, context: Context) -> None:
        """Choose the codecs of the linear maps and of the word embeddings."""
        o, codecs = self.options, student.storage.codecs
        for path, module in student.named_modules():
            if isinstance(module, torch.nn.Linear) and not path.startswith("head.classifier"):
                codecs[f"{path}.weight"] = models_codecs.Codec(
                    (models_codecs.Dictionary(o.bits, o.outliers), models_codecs.Pack(o.bits))
                )
        if o.embedding_bits:
            packed = models_codecs.Pack(o.embedding_bits)
            codecs["embedding.word.weight"] = models_codecs.Codec(
                (models_codecs.Dictionary(o.embedding_bits, o.outliers), packed)
            )
