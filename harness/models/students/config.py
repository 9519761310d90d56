"""The shapes of students other than Transformers: frozen, stored as JSON, and distinguished by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from harness.models.config import HeadConfig, Words
from harness.models.frozen_config import Count, FrozenConfig, Positive


class StudentConfig(FrozenConfig):
    """The fields of all students: word embeddings of any size, and a head with a hidden layer of `classifier` units.

    A `paired` student reads the two texts of a pair separately and classifies [u; v; |u − v|; u ∗ v] (Tang et al. 2019,
    section 3.2). Texts are cut at `stretch` times a task's length, because characters are shorter than word pieces.
    """

    kind: str
    vocab_size: Positive = 30522
    embedding_size: Positive = 300
    words: Words | None = None
    positions: Positive = 512
    stretch: Positive = 1
    paired: bool = False
    classifier: Positive = 200
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    head: HeadConfig = HeadConfig()

    @property
    def sentence_size(self) -> int:
        """The width S of a text's vector."""
        raise NotImplementedError


class BagConfig(StudentConfig):
    """The mean of a text's word embeddings (the thesis's feed-forward student)."""

    kind: Literal["bag"] = "bag"
    classifier: Positive = 100
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2

    @property
    def sentence_size(self) -> int:
        """The size of the word embeddings."""
        return self.embedding_size


class RecurrentConfig(StudentConfig):
    """A recurrent network of LSTM or Elman (tanh) cells.

    A text's vector is the last state of each direction, or the maximum or the attention-weighted mean over all states.
    """

    kind: Literal["recurrent"] = "recurrent"
    cell: Literal["lstm", "rnn"] = "lstm"
    bidirectional: bool = True
    layer_count: Positive = 1
    hidden: Positive = 150
    pooling: Literal["last", "max", "attention"] = "last"

    @property
    def sentence_size(self) -> int:
        """The width of the states of all directions."""
        return self.hidden * (2 if self.bidirectional else 1)


Operation = Literal[
    "conv3",
    "conv5",
    "conv7",
    "dilated3",
    "dilated5",
    "dilated7",
    "max-pool",
    "avg-pool",
    "identity",
    "zero",
]
"""The operation of a cell's edge: a convolution over 3, 5 or 7 tokens, `dilated` if it skips every other token; a
pooling over three tokens; `identity`; `zero` if the edge adds nothing.
"""
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
NODES = 3
"""The number of nodes of a cell, without its two inputs."""
EDGES = 2
"""The number of edges of a node."""
Genotype = tuple[tuple[tuple[Count, Operation], ...], ...]
"""A cell: for each node its edges, each with the number of its input and its operation. Inputs 0 and 1 are the outputs
of the two cells before this one, the older first; 2 is the first node.
"""
FIXED_CELL: Genotype = (
    ((0, "conv3"), (1, "conv5")),
    ((1, "identity"), (2, "dilated3")),
    ((2, "max-pool"), (3, "conv7")),
)
"""A cell with operations like those that searches choose."""


class ConvolutionalConfig(StudentConfig):
    """A sequence of equal cells of convolutions and poolings over `channels`; each cell reads the two before it (Chen
    et al. 2020, section 3.1). The embedding is the sum of words and positions.
    """

    kind: Literal["convolutional"] = "convolutional"
    embedding_size: Positive = 128
    classifier: Positive = 128
    channels: Positive = 128
    cells: Positive = 4
    genotype: Genotype = FIXED_CELL

    @field_validator("genotype")
    @classmethod
    def _nodes_read_what_is_before_them(cls, genotype: Genotype) -> Genotype:
        if len(genotype) != NODES:
            raise ValueError(f"a cell has {NODES} nodes, not {len(genotype)}")
        for number, edges in enumerate(genotype, 2):
            sources = [source for source, _ in edges]
            if len(sources) != EDGES:
                raise ValueError(f"node {number} must have {EDGES} edges, not {len(sources)}")
            if len(set(sources)) < len(sources):
                raise ValueError(f"node {number} reads {sources[0]} twice; its edges must have two inputs")
            if max(sources) >= number:
                raise ValueError(f"node {number} reads {max(sources)}, but it can read 0 to {number - 1}")
        return genotype

    @property
    def sentence_size(self) -> int:
        """The number of channels."""
        return self.channels
