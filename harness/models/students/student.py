"""The base of students other than Transformers: embed tokens, map each text to a vector, classify the vectors.

Shapes: b rows, n tokens, embeddings of size E, vectors of size S.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from harness.common.errors import Code, SkylineError
from harness.models.batch import Batch, Output
from harness.models.embeddings import CodedEmbedding, HashedEmbedding, word_embedding
from harness.models.model import Model
from harness.models.students.config import StudentConfig

if TYPE_CHECKING:
    from harness.models.tokenizer import Tokenizer
    from harness.tasks.base import Task, TrainingView

WORD_DEVIATION = 0.1
"""Standard deviation of initial word embeddings: small compared with the changes that training makes."""


class StudentEmbedding(nn.Module):
    """Word embeddings of any kind and size, with dropout."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.word = word_embedding(config.vocab_size, config.embedding_size, config.words)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (b, n) to (b, n, E)."""
        embedded: Tensor = self.dropout(self.word(ids))
        return embedded


class StudentHead(nn.Module):
    """A hidden layer (ReLU) and the classifier, on the vector of one text or on [u; v; |u − v|; u ∗ v] of two."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        inputs = config.sentence_size * (4 if config.paired else 1)
        self.hidden = nn.Linear(inputs, config.classifier)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.classifier, config.head.outputs)

    def forward(self, vectors: list[Tensor]) -> Tensor:
        """Map the texts' vectors, each (b, S), to logits (b, outputs)."""
        features = vectors[0]
        if len(vectors) == 2:
            u, v = vectors
            features = torch.cat([u, v, (u - v).abs(), u * v], dim=-1)  # (b, 4 S)
        logits: Tensor = self.classifier(self.dropout(torch.relu(self.hidden(features))))
        return logits


class Student(Model):
    """A student. Its `body` maps the embeddings (b, n, E) and the mask (b, n) of texts to their vectors (b, S).

    Raises SkylineError for a span head, because a student has no state of each token, and for no head.
    """

    config: StudentConfig

    def __init__(
        self, config: StudentConfig, body: nn.Module, tokenizer: Tokenizer | None = None, origin: str = ""
    ) -> None:
        super().__init__(config, tokenizer, origin)
        if config.head.kind not in ("classification", "regression"):
            raise SkylineError(
                f"a {config.kind} student classifies texts, it cannot have a {config.head.kind} head; "
                "use a task of sentences or pairs",
                Code.WRONG_KIND,
            )
        self.embedding = StudentEmbedding(config)
        self.body = body
        self.head = StudentHead(config)

    def forward(self, batch: Batch, hidden_states: bool = False, attentions: bool = False) -> Output:
        """Map a batch to logits (b, outputs). A student has no hidden states and no attention maps to return.

        Raises SkylineError if the batch is longer than the student's positions.
        """
        self.check_length(batch.input_ids.shape[1])
        texts = (
            [text_of(batch, 0), text_of(batch, 1)]
            if self.config.paired
            else [(batch.input_ids, batch.attention_mask)]
        )
        return Output(self.head([self.body(self.embedding(ids), mask) for ids, mask in texts]))

    def initialize(self, generator: torch.Generator) -> Self:
        """Initialize every weight and return the model: word embeddings from normal(0, 0.1), linear maps and recurrent
        cells as PyTorch does, uniformly in ±1 / √(inputs), or in ±1 / √(hidden units) for a cell.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.RNNBase):
                inputs = module.in_features if isinstance(module, nn.Linear) else module.hidden_size
                for parameter in module.parameters(recurse=False):
                    parameter.data.uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator)
            elif isinstance(module, nn.Embedding):
                module.weight.data.normal_(0.0, WORD_DEVIATION, generator=generator)
            elif isinstance(module, CodedEmbedding | HashedEmbedding):
                module.initialize(WORD_DEVIATION, generator)
        return self

    def length_for(self, task: Task | TrainingView) -> int:
        """Return the number of tokens at which a task's texts are cut: `stretch` times a Transformer's, so that the
        student reads as much text. Raises SkylineError as `Model.length_for` does.
        """
        stretch = self.config.stretch
        return stretch * task.length_within(self.config.positions // stretch)

    def check_pairs(self, paired: bool) -> None:
        """Raise SkylineError if a student for pairs is given single texts, or a student for single texts pairs."""
        if paired == self.config.paired:
            return
        made, given = ("pairs", "single texts") if self.config.paired else ("single texts", "pairs")
        raise SkylineError(
            f"this {self.config.kind} student was made for {made}, it cannot read {given}; "
            f"give it {made}, or distil one on a task of {given}",
            Code.WRONG_KIND,
        )

    def components(self) -> Iterator[tuple[str, str, nn.Module]]:
        """Yield embedding, body and head."""
        for name in ("embedding", "body", "head"):
            yield name, name, getattr(self, name)

    def matrix_names(self) -> dict[str, str]:
        """Map each weight matrix of the body and of the head's hidden layer to "body" or "head"."""
        return {
            name: name.partition(".")[0]
            for name, parameter in self.named_parameters()
            if parameter.dim() == 2 and not name.startswith(("embedding.", "head.classifier."))
        }


def text_of(batch: Batch, segment: int) -> tuple[Tensor, Tensor]:
    """Return the tokens of one segment of each row, moved to the left, and their mask, both (b, longest)."""
    chosen = (batch.attention_mask == 1) & (batch.token_type_ids == segment)
    longest = max(1, int(chosen.sum(1).max()))
    order = torch.argsort(chosen.int(), dim=1, descending=True, stable=True)[:, :longest]
    return batch.input_ids.gather(1, order), chosen.gather(1, order).to(batch.attention_mask.dtype)
