"""The convolutional student: cells of small operations on the tokens of a text, one after the other (Chen et al. 2020,
section 3.1).

Shapes: b texts, n tokens, embeddings of size E, C channels. `present` (b, n, 1) is 1 at tokens and 0 at padding; states
are 0 there before every operation, so that no result depends on how a text is padded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.students.bag import Mean
from harness.models.students.config import ConvolutionalConfig, Genotype, Operation
from harness.models.students.student import Student, StudentEmbedding

if TYPE_CHECKING:
    from harness.models.tokenizer import Tokenizer

EPSILON, MOMENTUM = 1e-5, 0.1
"""Of batch normalisation: added to the variance, and the share of a batch in the running statistics."""
POOLED = 3
"""Tokens that a pooling reads."""


def windows(states: Tensor, width: int, dilation: int = 1) -> list[Tensor]:
    """What each token sees at each place of a window around it, from left to right: `width` tensors of the states'
    shape (b, n, C). Beyond the ends there are zeros.
    """
    reach = dilation * (width - 1) // 2
    padded = F.pad(states, (0, 0, reach, reach))
    return [padded[:, place * dilation : place * dilation + states.shape[1]] for place in range(width)]


class TokenNorm(nn.Module):
    """Batch normalisation whose statistics leave padding out.

    The running ones are parameters that nothing trains: an artifact must have them, or it could not be executed.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.mean = nn.Parameter(torch.zeros(channels), requires_grad=False)
        self.variance = nn.Parameter(torch.ones(channels), requires_grad=False)

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Map (b, n, C) to the same shape, by the batch's statistics in training and by the running ones else."""
        states = states.float()
        mean, variance = self.observe(states, present) if self.training else (self.mean, self.variance)
        scale = self.weight * torch.rsqrt(variance + EPSILON)
        return torch.addcmul(self.bias - mean * scale, states, scale)

    def observe(self, states: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (C,) of the batch's tokens. The running statistics follow, but where there are none."""
        tokens = present.sum()
        count = tokens.clamp_min(1)
        mean = (states * present).sum((0, 1)) / count
        variance = ((states - mean).square() * present).sum((0, 1)) / count
        with torch.no_grad():
            share = MOMENTUM * tokens.clamp_max(1)
            self.mean.lerp_(mean, share)
            self.variance.lerp_(variance * count / (count - 1).clamp_min(1), share)
        return mean, variance


class Convolution(nn.Module):
    """ReLU, convolution, normalisation. The weight is a matrix (C, width · C): what prunes and quantizes linear maps
    finds it.
    """

    def __init__(self, channels: int, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.width, self.dilation = width, dilation
        self.dense = nn.Linear(width * channels, channels, bias=False)
        self.norm = TokenNorm(channels)

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Map (b, n, C) to the same shape."""
        seen = torch.cat(windows(torch.relu(states), self.width, self.dilation), dim=-1)
        result: Tensor = self.norm(self.dense(seen), present)
        return result


class MaxPool(nn.Module):
    """The largest of each channel in a window, after the ReLU: no token is below the zeros of padding."""

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Map (b, n, C) to the same shape."""
        first, second, third = windows(torch.relu(states), POOLED)
        return torch.maximum(torch.maximum(first, second), third)


class AveragePool(nn.Module):
    """The mean of each channel over the tokens in a window, after the ReLU."""

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Map (b, n, C) to the same shape."""
        first, second, third = windows(torch.relu(states), POOLED)
        left, here, right = windows(present, POOLED)
        return (first + second + third) / (left + here + right).clamp_min(1)


class Identity(nn.Module):
    """The input as it is."""

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Return the states (b, n, C)."""
        return states


class Zero(nn.Module):
    """No edge."""

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Zeros (b, n, C)."""
        return torch.zeros_like(states)


def operation(name: Operation, channels: int) -> nn.Module:
    """The module that computes an operation: it takes states (b, n, C) and where tokens are."""
    if name.startswith("conv"):
        return Convolution(channels, int(name.removeprefix("conv")))
    if name.startswith("dilated"):
        return Convolution(channels, int(name.removeprefix("dilated")), dilation=2)
    return {"max-pool": MaxPool, "avg-pool": AveragePool, "identity": Identity, "zero": Zero}[name]()


class Node(nn.Module):
    """The sum of its edges: each reads one of the states before it by a module of its own."""

    def __init__(self, edges: Sequence[tuple[int, nn.Module]]) -> None:
        super().__init__()
        self.sources = [source for source, _ in edges]
        self.edges = nn.ModuleList(module for _, module in edges)

    def forward(self, states: Sequence[Tensor], present: Tensor) -> Tensor:
        """Map the states before it, each (b, n, C), to its own."""
        read = zip(self.sources, self.edges, strict=True)
        # A norm's shift makes padding something other than 0.
        return torch.stack([edge(states[source], present) for source, edge in read]).sum(0) * present


class Cell(nn.Module):
    """Nodes one after the other, and a mean of theirs with learned weights."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(nodes)
        self.attention = nn.Parameter(torch.zeros(len(self.nodes)))

    def forward(self, before: Tensor, last: Tensor, present: Tensor) -> Tensor:
        """Map the outputs of the cell before the last and of the last one, each (b, n, C), to this one's."""
        states = [before, last]
        for node in self.nodes:
            states.append(node(states, present))
        return attended(states[2:], self.attention)


def cell_of(genotype: Genotype, channels: int) -> Cell:
    """A cell with the operations that a genotype names."""
    return Cell(Node([(source, operation(name, channels)) for source, name in node]) for node in genotype)


def attended(states: Sequence[Tensor], logits: Tensor) -> Tensor:
    """Σ a_i · state_i with a = softmax(logits), of states of one shape."""
    weights = torch.softmax(logits, dim=0).view(-1, *[1] * states[0].dim())
    return (torch.stack(list(states)) * weights).sum(0)


class Convolutional(nn.Module):
    """The cells, and a vector of each text: tanh of the weighted mean of what the embeddings and every cell have for
    their mean over tokens. A text without tokens has the vector 0.

    `cells` are those of the configuration unless they are given.
    """

    def __init__(self, config: ConvolutionalConfig, cells: Iterable[Cell] | None = None) -> None:
        super().__init__()
        size, channels = config.embedding_size, config.channels
        self.enter = None if size == channels else nn.Linear(size, channels, bias=False)
        if cells is None:
            cells = (cell_of(config.genotype, channels) for _ in range(config.cells))
        self.cells = nn.ModuleList(cells)
        self.mean = Mean()
        self.attention = nn.Parameter(torch.zeros(len(self.cells) + 1))

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Map (b, n, E) and the mask (b, n) to (b, C)."""
        present = mask[..., None].float()
        entered = embedded if self.enter is None else self.enter(embedded)
        before = last = entered.float() * present
        states = [self.mean(last, mask)]
        for cell in self.cells:
            # The first cell reads the embeddings twice.
            before, last = last, cell(before, last, present)
            states.append(self.mean(last, mask))
        return torch.tanh(attended(states, self.attention))


class PositionedEmbedding(StudentEmbedding):
    """Embeddings of words and positions, normalised. Positions begin as nothing."""

    def __init__(self, config: ConvolutionalConfig) -> None:
        super().__init__(config)
        self.position = nn.Parameter(torch.zeros(config.positions, config.embedding_size))
        self.norm = nn.LayerNorm(config.embedding_size)

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (b, n) to (b, n, E)."""
        embedded: Tensor = self.dropout(self.norm(self.word(ids) + self.position[: ids.shape[1]]))
        return embedded


class ConvolutionalStudent(Student):
    """A student with cells; in a pair each text has positions of its own."""

    config: ConvolutionalConfig

    def __init__(
        self, config: ConvolutionalConfig, tokenizer: Tokenizer | None = None, origin: str = ""
    ) -> None:
        super().__init__(config, Convolutional(config), tokenizer, origin)
        self.embedding = PositionedEmbedding(config)
