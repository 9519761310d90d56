"""mkd-bilstm: a bidirectional LSTM with attention over its states learns the teacher's logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from harness import Card, Claim, Paper, options
from harness.compression.distillation.students import Embedding, StudentDistillation, StudentOptions
from harness.models.students.config import RecurrentConfig

if TYPE_CHECKING:
    from harness.models.students.config import RecurrentConfig


class MKDBiLSTM(StudentDistillation):
    """A bidirectional LSTM whose states are pooled by attention, trained with L = MSE(z_S, z_T) (Liu et al. 2019, for
    one task).
    """

    card = Card(
        id="mkd-bilstm",
        title="MKD BiLSTM (one task)",
        family="distillation",
        paper=Paper(
            title="Attentive Student Meets Multi-Task Teacher: Improved Knowledge Distillation for Pretrained Models",
            authors="Liu, Wang, Lin, Socher, Xiong",
            year=2019,
            venue="arXiv",
            link="https://arxiv.org/abs/1911.03588",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "One task instead of seven at once: teacher and student share no layers between tasks, and there is no "
            "stage of fine-tuning for each. The baseline is the teacher instead of a multi-task BERT-large. The texts "
            "of a pair are encoded separately and combined as [u; v; |u - v|; u * v], without attention from one text "
            "to the other. The paper's attention score is not known; v tanh(W h + b) is ours. Only the student's size "
            "of 101 MB is known, 90 of them embeddings; the hidden size is chosen to fit that with BERT's word pieces "
            "in 768 dimensions."
        ),
        touches=("embedding", "attention_in", "attention", "attention_out", "ffn", "head"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim(
                "mnli", "unknown", "accuracy", 78.6, "Ganesh et al. 2021, Table 1", False, model="bert-large"
            ),
            Claim(
                "qqp", "unknown", "accuracy", 88.6, "Ganesh et al. 2021, Table 1", False, model="bert-large"
            ),
            Claim(
                "sst2", "unknown", "accuracy", 91.0, "Ganesh et al. 2021, Table 1", False, model="bert-large"
            ),
        ),
        notes=(
            "Under BERT-base, embedding=wordpiece with dimension=768 has the published size: the embeddings are nine "
            "tenths of it."
        ),
    )

    @options
    class Options(StudentOptions):
        """`hidden` units in each direction; `layers`; `dropout`; and the options of all students (`embedding`,
        `dimension`, `vocabulary`, `start`, `classifier`, `alpha`, `temperature`, `rate`, `augment`).
        """

        embedding: Embedding = "wordpiece"
        dimension: Annotated[int, Field(ge=1, le=4096)] = 256
        hidden: Annotated[int, Field(ge=1, le=8192)] = 256
        layers: Annotated[int, Field(ge=1, le=16)] = 1
        alpha: Annotated[float, Field(ge=0, le=1)] = 0.0
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    suite = {
        "embedding": ("wordpiece", "bpe", "hash"),
        "dimension": (8, 100),
        "hidden": (8, 256),
        "classifier": (16, 200),
        "start": ("random", "teacher"),
    }

    def shape(self, common: Mapping[str, Any]) -> RecurrentConfig:
        """Return the shape: LSTM cells in both directions, and attention pooling."""
        o = self.options
        own = {"hidden": o.hidden, "layer_count": o.layers, "pooling": "attention", "dropout": o.dropout}
        return RecurrentConfig.model_validate({**common, **own})
