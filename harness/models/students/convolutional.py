"""The convolutional student: a sequence of cells, each made of small operations on the tokens of a text (Chen et al.
2020, section 3.1).

Shapes: b texts, n tokens, embeddings of size E, C channels. `present` (b, n, 1) is 1 at tokens and 0 at padding. Before
every operation, states are 0 at padding, so no result depends on how a text is padded.
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
"""Batch normalisation: the number added to the variance, and a new batch's share in the running statistics."""
POOLED = 3
"""The number of tokens that a pooling reads."""


def windows(states: Tensor, width: int, dilation: int = 1) -> list[Tensor]:
    """Return the states in a window around each token: `width` tensors (b, n, C), from left to right.

    The states are (b, n, C); beyond their ends there are zeros.
    """
    reach = dilation * (width - 1) // 2
    padded = F.pad(states, (0, 0, reach, reach))
    return [padded[:, place * dilation : place * dilation + states.shape[1]] for place in range(width)]


class TokenNorm(nn.Module):
    """Batch normalisation whose statistics exclude padding.

    The running statistics are parameters that are not trained, because an artifact stores parameters and needs them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.mean = nn.Parameter(torch.zeros(channels), requires_grad=False)
        self.variance = nn.Parameter(torch.ones(channels), requires_grad=False)

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Normalise (b, n, C): in training by the batch's statistics, otherwise by the running ones."""
        states = states.float()
        mean, variance = self.observe(states, present) if self.training else (self.mean, self.variance)
        scale = self.weight * torch.rsqrt(variance + EPSILON)
        return torch.addcmul(self.bias - mean * scale, states, scale)

    def observe(self, states: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance (C,) of the batch's tokens and update the running statistics, unless there is no
        token.
        """
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
    """ReLU, convolution, normalisation. The weight is a linear map's matrix (C, width · C), so methods that prune or
    quantize linear maps find it.
    """

    def __init__(self, channels: int, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.width, self.dilation = width, dilation
        self.dense = nn.Linear(width * channels, channels, bias=False)
        self.norm = TokenNorm(channels)

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Map (b, n, C) to the same shape."""
        seen = torch.cat(windows(torch.relu(states), self.width, self.dilation), dim=-1)  # (b, n, width · C)
        result: Tensor = self.norm(self.dense(seen), present)
        return result


class MaxPool(nn.Module):
    """The maximum of each channel in a window, after a ReLU: so the zeros of padding never exceed a token."""

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Map (b, n, C) to the same shape."""
        first, second, third = windows(torch.relu(states), POOLED)
        return torch.maximum(torch.maximum(first, second), third)


class AveragePool(nn.Module):
    """The mean of each channel over the tokens in a window, after a ReLU."""

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Map (b, n, C) to the same shape."""
        first, second, third = windows(torch.relu(states), POOLED)
        left, here, right = windows(present, POOLED)
        return (first + second + third) / (left + here + right).clamp_min(1)


class Identity(nn.Module):
    """An edge that returns its input."""

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Return the states (b, n, C)."""
        return states


class Zero(nn.Module):
    """An edge that adds nothing."""

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Return zeros (b, n, C)."""
        return torch.zeros_like(states)


def operation(name: Operation, channels: int) -> nn.Module:
    """Make the module of an operation. It maps states (b, n, C) and `present` (b, n, 1) to (b, n, C)."""
    if name.startswith("conv"):
        return Convolution(channels, int(name.removeprefix("conv")))
    if name.startswith("dilated"):
        return Convolution(channels, int(name.removeprefix("dilated")), dilation=2)
    return {"max-pool": MaxPool, "avg-pool": AveragePool, "identity": Identity, "zero": Zero}[name]()


class Node(nn.Module):
    """The sum of its edges. Each edge has an input, the number of an earlier state, and its own module."""

    def __init__(self, edges: Sequence[tuple[int, nn.Module]]) -> None:
        super().__init__()
        self.sources = [source for source, _ in edges]
        self.edges = nn.ModuleList(module for _, module in edges)

    def forward(self, states: Sequence[Tensor], present: Tensor) -> Tensor:
        """Map the earlier states, each (b, n, C), to the node's state (b, n, C)."""
        read = zip(self.sources, self.edges, strict=True)
        # The shift of a norm makes padding non-zero, so it is set to 0 again.
        return torch.stack([edge(states[source], present) for source, edge in read]).sum(0) * present


class Cell(nn.Module):
    """A sequence of nodes. Its output is the mean of their states with learned weights."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        super().__init__()
        self.nodes = nn.ModuleList(nodes)
        self.attention = nn.Parameter(torch.zeros(len(self.nodes)))

    def forward(self, before: Tensor, last: Tensor, present: Tensor) -> Tensor:
        """Map the outputs of the two cells before this one, each (b, n, C), to its own output (b, n, C)."""
        states = [before, last]
        for node in self.nodes:
            states.append(node(states, present))
        return attended(states[2:], self.attention)


def cell_of(genotype: Genotype, channels: int) -> Cell:
    """Make the cell that a genotype describes."""
    return Cell(Node([(source, operation(name, channels)) for source, name in node]) for node in genotype)


def attended(states: Sequence[Tensor], logits: Tensor) -> Tensor:
    """Return Σ a_i · state_i with a = softmax(logits). `logits` has one number for each state, all of one shape."""
    weights = torch.softmax(logits, dim=0).view(-1, *[1] * states[0].dim())  # (states, 1, …)
    return (torch.stack(list(states)) * weights).sum(0)


class Convolutional(nn.Module):
    """The cells, which map a text to a vector.

    The embeddings and the output of each cell are averaged over tokens; the vector is tanh of the mean of these
    averages with learned weights. A text without tokens has the vector 0. Unless `cells` are given, the configuration's
    genotype describes them.
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
        """Map embeddings (b, n, E) and the mask (b, n) to vectors (b, C)."""
        present = mask[..., None].float()  # (b, n, 1)
        entered = embedded if self.enter is None else self.enter(embedded)  # (b, n, C)
        before = last = entered.float() * present
        states = [self.mean(last, mask)]  # each (b, C)
        for cell in self.cells:
            # The first cell reads the embeddings twice.
            before, last = last, cell(before, last, present)
            states.append(self.mean(last, mask))
        return torch.tanh(attended(states, self.attention))


class PositionedEmbedding(StudentEmbedding):
    """The sum of word and position embeddings, normalised. Position embeddings start at 0."""

    def __init__(self, config: ConvolutionalConfig) -> None:
        super().__init__(config)
        self.position = nn.Parameter(torch.zeros(config.positions, config.embedding_size))
        self.norm = nn.LayerNorm(config.embedding_size)

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (b, n) to (b, n, E)."""
        embedded: Tensor = self.dropout(self.norm(self.word(ids) + self.position[: ids.shape[1]]))
        return embedded


class ConvolutionalStudent(Student):
    """A student with cells. In a pair, the positions of each text start at 0."""

    config: ConvolutionalConfig

    def __init__(
        self, config: ConvolutionalConfig, tokenizer: Tokenizer | None = None, origin: str = ""
    ) -> None:
        super().__init__(config, Convolutional(config), tokenizer, origin)
        self.embedding = PositionedEmbedding(config)
