"""rnn: an Elman network in both directions learns the teacher's logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from harness import Card, Paper, options
from harness.compression.distillation.students import StudentDistillation, StudentOptions, thesis_claims
from harness.models.students.config import RecurrentConfig

if TYPE_CHECKING:
    from harness.models.students.config import RecurrentConfig


class RNN(StudentDistillation):
    """An Elman network (1990), h_t = tanh(W x_t + U h_{t−1} + b), with L = α · task loss + (1 − α) · MSE(z_S, z_T)."""

    card = Card(
        id="rnn",
        title="Elman network",
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
            "are the harness's (AdamW), not Adam at 1e-4 with weight decay 1e-5. Title and year of the thesis were not "
            "read in it; its code was released in 2021."
        ),
        touches=("embedding", "attention_in", "attention", "attention_out", "ffn", "head"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=thesis_claims(
            (
                ("hash", 25, 0, 69.0, 81.8, 84.0, 83.7),
                ("hash", 100, 0, 72.7, 82.4, 82.9, 83.5),
                ("hash", 300, 0, 73.6, 82.9, 83.1, 83.2),
                ("bpe", 25, 0, 79.9, 84.8, 85.1, 86.0),
                ("bpe", 100, 0, 79.4, 85.3, 86.1, 86.8),
                ("bpe", 300, 0, 79.9, 86.2, 87.4, 87.1),
                ("char", 100, 0, 79.1, 83.3, 84.1, 84.6),
            ),
            {"hidden": 100, "layers": 1, "classifier": 100, "pooling": "last", "temperature": 0.0},
        ),
        notes=(
            "The thesis doubles `hidden` and `classifier` for pairs, and finds pooling=max worse on SST-2 and better "
            "on QQP and MNLI. Sizes do not include a tokenizer's file, not in the baseline either."
        ),
    )

    @options
    class Options(StudentOptions):
        """`hidden` units in each direction; `layers`; `pooling`: last state or maximum; `dropout`; and the options of
        all students (`embedding`, `dimension`, `vocabulary`, `start`, `classifier`, `alpha`, `temperature`, `rate`,
        `augment`).
        """

        hidden: Annotated[int, Field(ge=1, le=8192)] = 100
        layers: Annotated[int, Field(ge=1, le=16)] = 1
        pooling: Literal["last", "max"] = "last"
        classifier: Annotated[int, Field(ge=1, le=65536)] = 100
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    suite = {
        "embedding": ("bpe", "char", "hash"),
        "dimension": (8, 25, 100),
        "hidden": (8, 100),
        "classifier": (16, 100),
        "pooling": ("last", "max"),
    }

    def shape(self, common: Mapping[str, Any]) -> RecurrentConfig:
        """Return the shape: Elman cells in both directions."""
        o = self.options
        own = {"cell": "rnn", "hidden": o.hidden, "layer_count": o.layers, "pooling": o.pooling}
        return RecurrentConfig.model_validate({**common, **own, "dropout": o.dropout})
