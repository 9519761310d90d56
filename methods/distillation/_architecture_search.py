"""Search for the cell of a convolutional student (Chen et al. 2020, section 3), for adabert.

Every edge has all operations. Each training step draws one operation for each edge and trains it and its probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.parametrization import straight_through
from harness.models.students.config import EDGES, NODES, OPERATIONS, ConvolutionalConfig, Genotype, Operation
from harness.models.students.convolutional import Cell, Convolutional, Node, operation

MOST_CELLS = 8
"""Largest number of cells in the paper's search. The efficiency loss is relative to it."""
COSTS: Mapping[Operation, float] = {
    "conv3": 0.0999,
    "conv5": 0.1037,
    "conv7": 0.1076,
    "dilated3": 0.0999,
    "dilated5": 0.1037,
    "dilated7": 0.1076,
    "max-pool": 0.0944,
    "avg-pool": 0.0944,
    "identity": 0.0944,
    "zero": 0.0944,
}
"""Cost of an operation in parameters and FLOPs, normalised to a sum of 1 (the released code's figures, rounded)."""


def sources_of(node: int) -> range:
    """Return the possible inputs of a node (from 0): the cell's two inputs and the nodes before it."""
    return range(node + 2)


def annealed(progress: float, end: float) -> float:
    """Return the temperature at a training progress in [0, 1]: it falls from 1 to `end` exponentially."""
    return float(end**progress)


def efficiency_loss(weights: Tensor, cells: int) -> Tensor:
    """Return L_E = K / 8 · mean over edges of Σ_o w_o · cost_o for weights w (edges, operations) and K cells."""
    costs = weights.new_tensor([COSTS[name] for name in OPERATIONS])
    return cells / MOST_CELLS * (weights @ costs).mean()


def genotype_of(logits: Tensor) -> Genotype:
    """Return the cell of architecture logits (edges, operations). Edges are in the order of their node, then of their
    input.

    Each node keeps the two edges whose likeliest operation (except zero) is likeliest; the first of equal ones.
    """
    likely = torch.softmax(logits.detach().double().cpu(), dim=-1)
    likely[:, OPERATIONS.index("zero")] = -1.0
    best, chosen = (found.tolist() for found in likely.max(dim=-1))
    nodes, start = [], 0
    for node in range(NODES):
        sources = sources_of(node)
        strongest = sorted(sources, key=lambda source: -best[start + source])[:EDGES]
        nodes.append(tuple((source, OPERATIONS[chosen[start + source]]) for source in sorted(strongest)))
        start += len(sources)
    return tuple(nodes)


class Choice(nn.Module):
    """The operation of each edge: one-hot of the largest logit plus Gumbel noise, with the gradient of the softmax at a
    temperature. All cells share it.
    """

    noise: Tensor

    def __init__(self, edges: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(edges, len(OPERATIONS)))
        self.register_buffer("noise", torch.zeros(edges, len(OPERATIONS)))
        self.temperature = 1.0

    def draw(self, generator: torch.Generator, temperature: float) -> None:
        """Draw the Gumbel noise of the next step, −log of exponential numbers. `generator` must be on the CPU."""
        drawn = torch.empty(self.noise.shape).exponential_(generator=generator)
        self.noise.copy_(-drawn.log())
        self.temperature = temperature

    def weights(self) -> Tensor:
        """Return the weights (edges, operations), with a single 1 in each row."""
        soft = torch.softmax((self.logits + self.noise) / self.temperature, dim=-1)
        hard = F.one_hot(soft.argmax(dim=-1), len(OPERATIONS)).to(soft.dtype)
        return straight_through(soft, hard)


class Mixture(nn.Module):
    """All operations of one edge. Only the drawn operation is computed."""

    def __init__(self, channels: int, choice: Choice, edge: int) -> None:
        super().__init__()
        self.operations = nn.ModuleDict({name: operation(name, channels) for name in OPERATIONS})
        self.choice, self.edge = choice, edge

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Map states (b, n, C) to the same shape. `present` (b, n) marks tokens that are not padding."""
        weights = self.choice.weights()[self.edge]
        drawn = int(weights.argmax())
        result: Tensor = weights[drawn] * self.operations[OPERATIONS[drawn]](states, present)
        return result


def searchable_cell(channels: int, choice: Choice) -> Cell:
    """Return a cell with every possible edge."""
    nodes, edge = [], 0
    for node in range(NODES):
        sources = sources_of(node)
        nodes.append(
            Node([(source, Mixture(channels, choice, edge + place)) for place, source in enumerate(sources)])
        )
        edge += len(sources)
    return Cell(nodes)


class Search(Convolutional):
    """The body of a student during the search. `kept` returns its body after the search."""

    def __init__(self, config: ConvolutionalConfig) -> None:
        choice = Choice(sum(len(sources_of(node)) for node in range(NODES)))
        super().__init__(config, (searchable_cell(config.channels, choice) for _ in range(config.cells)))
        self.choice = choice

    def initialize(self, generator: torch.Generator) -> Self:
        """Draw the weights of the convolutions as `Student.initialize` does, and return the body."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                module.weight.data.uniform_(-bound, bound, generator=generator)
        return self

    def kept(self, config: ConvolutionalConfig) -> Convolutional:
        """Return the body for a configuration with a genotype. It takes over this body's modules and weights."""
        body = Convolutional(config, [_kept_cell(cast(Cell, cell), config.genotype) for cell in self.cells])
        body.enter, body.attention = self.enter, self.attention
        return body


def _kept_cell(cell: Cell, genotype: Genotype) -> Cell:
    nodes = []
    for node, edges in zip(cell.nodes, genotype, strict=True):
        # During the search a node's edges are in the order of their inputs.
        mixtures = cast(Node, node).edges
        nodes.append(
            Node([(source, cast(Mixture, mixtures[source]).operations[name]) for source, name in edges])
        )
    kept = Cell(nodes)
    kept.attention = cell.attention
    return kept
