"""ffn: the smallest student, a hidden layer on the mean of a text's word embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from harness import Card, Paper, options
from harness.compression.distillation.students import StudentDistillation, StudentOptions, thesis_claims
from harness.models.students.config import BagConfig

if TYPE_CHECKING:
    from harness.models.students.config import BagConfig


class FFN(StudentDistillation):
    """A classifier of mean embeddings, with L = α · task loss + (1 − α) · MSE(softmax(z_S / 3), softmax(z_T / 3))."""

    card = Card(
        id="ffn",
        title="Feed-forward student",
        family="distillation",
        paper=Paper(
            title="Distilling RoBERTa into LSTM, RNN and feed-forward students (thesis behind pocketML/lil_bobby)",
            authors="the authors of pocketML/lil_bobby",
            year=2021,
            venue="thesis",
            link="https://github.com/pocketML/lil_bobby",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The baseline is the teacher instead of RoBERTa-large. Byte pairs are learned from the task's training "
            "texts and begin at random; the thesis uses BPEmb's, pre-trained on Wikipedia. embedding=hash hashes the "
            "numbers of the base's word pieces, not words, with other hashes than MD5. Optimizer, schedule and rate "
            "are the harness's (AdamW), not Adam at 1e-4. Title and year of the thesis were not read in it; its code "
            "was released in 2021."
        ),
        touches=("embedding", "attention_in", "attention", "attention_out", "ffn", "head"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=thesis_claims(
            (
                ("hash", 25, 0, 75.0, 80.5, 80.6, 81.2),
                ("hash", 100, 0, 74.4, 80.7, 81.0, 81.6),
                ("hash", 300, 0, 73.5, 80.2, 80.5, 81.8),
                ("bpe", 25, 0, 81.3, 81.0, 81.2, 81.4),
                ("bpe", 100, 0, 80.7, 82.1, 81.8, 80.3),
                ("bpe", 300, 0, 81.0, 81.9, 81.7, 81.7),
                ("char", 100, 0, 59.5, 57.7, 58.3, 57.5),
                ("hash", 25, 2500, 74.8, 79.6, 79.9, 80.2),
            ),
            {"classifier": 100, "temperature": 3.0},
        ),
        notes=(
            "The thesis doubles `classifier` for pairs. The order of the words does not matter to this student. Sizes "
            "do not include a tokenizer's file, not in the baseline either; a hashed embedding needs the base's."
        ),
    )

    @options
    class Options(StudentOptions):
        """`dropout`, and the options of all students: `embedding`, its `dimension`, `vocabulary` and `start`;
        `classifier` units; `alpha`, `temperature` and `rate`; `augment`.
        """

        classifier: Annotated[int, Field(ge=1, le=65536)] = 100
        temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3.0
        rate: Annotated[float, Field(gt=0, le=1)] = 5e-3
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2

    suite = {
        "embedding": ("bpe", "char", "wordpiece", "hash"),
        "dimension": (8, 25, 100),
        "classifier": (16, 100),
        "alpha": (0.5, 0.0, 1.0),
    }

    def shape(self, common: Mapping[str, Any]) -> BagConfig:
        """Return the shape: a bag of words."""
        return BagConfig.model_validate({**common, "dropout": self.options.dropout})
