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
    """A bidirectional LSTM trained with L = α · task loss + (1 − α) · MSE(z_S, z_T), α = 0 (Tang et al. 2019, section
    3.3).
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
            "Byte pairs are learned from the task's training texts, and their embeddings begin at random, instead of "
            "word2vec's 300 dimensions; the thesis, from which some claims are, uses BPEmb's embeddings, pre-trained "
            "on Wikipedia. embedding=hash hashes the numbers of the base's word pieces. `augment` makes texts as "
            "TinyBERT does, not by the paper's masking, replacement by part of speech and n-grams. The optimizer is "
            "AdamW with warm-up and decay instead of Adadelta."
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
            ),
            {"hidden": 150, "layers": 1, "classifier": 200, "pooling": "last", "temperature": 0.0},
        ),
        notes=(
            "Sizes are the thesis's and those of the released configuration for SST-2 (150 hidden units in each "
            "direction, 200 before the classifier); the thesis doubles `hidden` and `classifier` for pairs, and finds "
            "pooling=max worse on SST-2 and better on QQP and MNLI. The texts of a pair are encoded separately. Sizes "
            "do not include a tokenizer's file, not in the baseline either."
        ),
    )

    @options
    class Options(StudentOptions):
        """`hidden` units in each direction; `layers`; `pooling`: last state or maximum; `dropout`; and the options of
        all students (`embedding`, `dimension`, `vocabulary`, `start`, `classifier`, `alpha`, `temperature`, `rate`,
        `augment`).
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
        """Return the shape: LSTM cells in both directions."""
        o = self.options
        own = {"hidden": o.hidden, "layer_count": o.layers, "pooling": o.pooling, "dropout": o.dropout}
        return RecurrentConfig.model_validate({**common, **own})
