"""The search for the cell of a convolutional student (Chen et al. 2020, section 3): every edge has all operations, of
which each training step draws one; what was drawn learns, and how likely it is.
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
"""That the paper's search allows: a full efficiency loss belongs to so many."""
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
"""What an operation costs in parameters and FLOPs, normalised to a sum of 1: the released code's figures, rounded."""


def sources_of(node: int) -> range:
    """What a node (from 0) may read: the cell's two inputs and the nodes before it."""
    return range(node + 2)


def annealed(progress: float, end: float) -> float:
    """The temperature at a training progress in [0, 1]: from 1 down to `end`, by the same factor each step."""
    return float(end**progress)


def efficiency_loss(weights: Tensor, cells: int) -> Tensor:
    """L_E = K / 8 · the mean over edges of Σ_o w_o · cost_o, for weights (edges, operations) and K cells."""
    costs = weights.new_tensor([COSTS[name] for name in OPERATIONS])
    return cells / MOST_CELLS * (weights @ costs).mean()


def genotype_of(logits: Tensor) -> Genotype:
    """The cell of architecture logits (edges, operations), edges in the order of their nodes and then of what they
    read: of each node the two edges whose likeliest operation, zero left out, is likeliest; of equal ones the first.
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
    """Which operation each edge computes: one-hot of the likeliest under logits and Gumbel noise, with the gradient of
    their softmax at a temperature. All cells share it.
    """

    noise: Tensor

    def __init__(self, edges: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(edges, len(OPERATIONS)))
        self.register_buffer("noise", torch.zeros(edges, len(OPERATIONS)))
        self.temperature = 1.0

    def draw(self, generator: torch.Generator, temperature: float) -> None:
        """Draw the noise of the next step, −log of exponential numbers; `generator` is the CPU's."""
        drawn = torch.empty(self.noise.shape).exponential_(generator=generator)
        self.noise.copy_(-drawn.log())
        self.temperature = temperature

    def weights(self) -> Tensor:
        """The weights (edges, operations): a 1 in each row."""
        soft = torch.softmax((self.logits + self.noise) / self.temperature, dim=-1)
        hard = F.one_hot(soft.argmax(dim=-1), len(OPERATIONS)).to(soft.dtype)
        return straight_through(soft, hard)


class Mixture(nn.Module):
    """All operations of one edge. Only the one that is drawn is computed."""

    def __init__(self, channels: int, choice: Choice, edge: int) -> None:
        super().__init__()
        self.operations = nn.ModuleDict({name: operation(name, channels) for name in OPERATIONS})
        self.choice, self.edge = choice, edge

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        """Map (b, n, C) to the same shape."""
        weights = self.choice.weights()[self.edge]
        drawn = int(weights.argmax())
        result: Tensor = weights[drawn] * self.operations[OPERATIONS[drawn]](states, present)
        return result


def searchable_cell(channels: int, choice: Choice) -> Cell:
    """A cell with every edge that there may be."""
    nodes, edge = [], 0
    for node in range(NODES):
        sources = sources_of(node)
        nodes.append(
            Node([(source, Mixture(channels, choice, edge + place)) for place, source in enumerate(sources)])
        )
        edge += len(sources)
    return Cell(nodes)


class Search(Convolutional):
    """The body of a student during the search; `kept` is what is left of it afterwards."""

    def __init__(self, config: ConvolutionalConfig) -> None:
        choice = Choice(sum(len(sources_of(node)) for node in range(NODES)))
        super().__init__(config, (searchable_cell(config.channels, choice) for _ in range(config.cells)))
        self.choice = choice

    def initialize(self, generator: torch.Generator) -> Self:
        """Draw the weights of convolutions as `Student.initialize` does."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                bound = module.in_features**-0.5
                module.weight.data.uniform_(-bound, bound, generator=generator)
        return self

    def kept(self, config: ConvolutionalConfig) -> Convolutional:
        """The body of a configuration with a genotype, made of this one's modules: they go on with their weights."""
        body = Convolutional(config, [_kept_cell(cast(Cell, cell), config.genotype) for cell in self.cells])
        body.enter, body.attention = self.enter, self.attention
        return body


def _kept_cell(cell: Cell, genotype: Genotype) -> Cell:
    nodes = []
    for node, edges in zip(cell.nodes, genotype, strict=True):
        # Before the search ends, a node's edges are in the order of what they read.
        mixtures = cast(Node, node).edges
        nodes.append(
            Node([(source, cast(Mixture, mixtures[source]).operations[name]) for source, name in edges])
        )
    kept = Cell(nodes)
    kept.attention = cell.attention
    return kept
