"""What students that are no Transformers look like: frozen, JSON, and told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from harness.models.config import Count, FrozenConfig, HeadConfig, Positive, Words


class StudentConfig(FrozenConfig):
    """What all students share: word embeddings of any size, and a head with a hidden layer of `classifier` units.

    `paired` students read a pair's two texts each for itself and classify [u; v; |u − v|; u ∗ v] (Tang et al. 2019,
    section 3.2). Texts are cut at `stretch` times a task's length: characters are shorter than word pieces.
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
        """The width of a sentence's vector."""
        raise NotImplementedError


class BagConfig(StudentConfig):
    """The mean of a sentence's word embeddings (the thesis's feed-forward student)."""

    kind: Literal["bag"] = "bag"
    classifier: Positive = 100
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2

    @property
    def sentence_size(self) -> int:
        """That of the embeddings."""
        return self.embedding_size


class RecurrentConfig(StudentConfig):
    """A recurrent net of LSTM cells or Elman's (tanh). A sentence's vector is the last state of each direction, or the
    maximum or an attention's mean over all of them.
    """

    kind: Literal["recurrent"] = "recurrent"
    cell: Literal["lstm", "rnn"] = "lstm"
    bidirectional: bool = True
    layer_count: Positive = 1
    hidden: Positive = 150
    pooling: Literal["last", "max", "attention"] = "last"

    @property
    def sentence_size(self) -> int:
        """The states of both directions."""
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
"""What an edge of a cell computes: a convolution over so many tokens, dilated over every other one; a pooling over
three; its input; nothing.
"""
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
NODES = 3
"""Of a cell, beside its two inputs."""
EDGES = 2
"""That a node keeps."""
Genotype = tuple[tuple[tuple[Count, Operation], ...], ...]
"""A cell: for each node its edges, each the number of what it reads and its operation. 0 and 1 are the outputs of the
cell before the last and of the last one, 2 is the first node.
"""
FIXED_CELL: Genotype = (
    ((0, "conv3"), (1, "conv5")),
    ((1, "identity"), (2, "dilated3")),
    ((2, "max-pool"), (3, "conv7")),
)
"""A cell of the kinds of operations that searches find."""


class ConvolutionalConfig(StudentConfig):
    """Equal cells of convolutions and poolings over `channels`, one after the other; each reads the two before it (Chen
    et al. 2020). Embeddings are of words and positions.
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
        """One number of each channel."""
        return self.channels
