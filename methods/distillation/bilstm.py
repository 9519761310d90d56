"""bilstm: a bidirectional LSTM learns the teacher's logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from harness import Card, Paper, options
from harness.compression.distillation.students import StudentDistillation, StudentOptions, thesis_claims
from harness.models.students.config import RecurrentConfig

if TYPE_CHECKING:
    from harness.models.students.config import RecurrentConfig


class BiLSTM(StudentDistillation):
    """L = α · task loss + (1 − α) · MSE(z_S, z_T), with α = 0 (Tang et al. 2019, section 3.3), into one layer of LSTM
    cells in both directions.
    """

    card = Card(
        id="bilstm",
        title="BiLSTM student",
        family="distillation",
        paper=Paper(
            title="Distilling Task-Specific Knowledge from BERT into Simple Neural Networks",
            authors="Tang, Lu, Liu, Mou, Vechtomova, Lin",
            year=2019,
            venue="arXiv",
            link="https://arxiv.org/abs/1903.12136",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "Embeddings of byte pairs, learned from the task's training texts and begun at random, instead of "
            "word2vec's 300 dimensions; where the claims are the thesis's, it has BPEmb's, pre-trained on Wikipedia. "
            "Hashed are the numbers of the base's word pieces. `augment` makes texts as TinyBERT does, not by the "
            "paper's masking, replacing by part of speech and n-grams. AdamW with warm-up and decay instead of "
            "Adadelta."
        ),
        touches=("embedding", "attention_in", "attention", "attention_out", "ffn", "head"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=thesis_claims(
            (
                ("hash", 25, 0, 78.5, 84.7, 85.9, 85.9),
                ("hash", 100, 0, 77.4, 85.2, 86.5, 87.0),
                ("hash", 300, 0, 77.4, 85.6, 86.6, 86.2),
                ("bpe", 25, 0, 82.9, 87.0, 89.1, 88.6),
                ("bpe", 100, 0, 82.9, 88.6, 89.4, 88.7),
                ("bpe", 300, 0, 83.7, 88.2, 88.8, 89.2),
                ("char", 100, 0, 72.9, 87.1, 85.1, 84.9),
            )
        ),
        notes=(
            "Sizes are the thesis's and those of the released configuration for SST-2 (150 hidden units in each "
            "direction, 200 before the classifier); the thesis doubles `hidden` and `classifier` for pairs, and finds "
            "pooling=max worse on SST-2 and better on QQP and MNLI. Pairs are read each for itself. A tokenizer's "
            "file counts in no size here, the baseline's neither. Begun at random, it fits MRPC's 3,668 rows "
            "(a loss of 0.14) and stays under the majority's 68.4 on dev: 65.2."
        ),
    )

    @options
    class Options(StudentOptions):
        """Beside what all students have (`embedding`, `dimension`, `vocabulary`, `start`, `classifier`, `alpha`,
        `temperature`, `rate`, `augment`): `hidden` units of each direction and `layers`; `pooling` of the states, the
        last one or the maximum; `dropout`.
        """

        hidden: Annotated[int, Field(ge=1, le=8192)] = 150
        layers: Annotated[int, Field(ge=1, le=16)] = 1
        pooling: Literal["last", "max"] = "last"
        alpha: Annotated[float, Field(ge=0, le=1)] = 0.0
        rate: Annotated[float, Field(gt=0, le=1)] = 2e-3
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    suite = {
        "embedding": ("bpe", "char", "wordpiece", "hash"),
        "dimension": (8, 25, 100),
        "hidden": (8, 150),
        "classifier": (16, 200),
        "pooling": ("last", "max"),
        "alpha": (0.0, 0.5),
    }

    def shape(self, common: Mapping[str, Any]) -> RecurrentConfig:
        """LSTM cells in both directions."""
        o = self.options
        own = {"hidden": o.hidden, "layer_count": o.layers, "pooling": o.pooling, "dropout": o.dropout}
        return RecurrentConfig.model_validate({**common, **own})
