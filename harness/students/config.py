"""What students that are no Transformers look like: frozen, JSON, and told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.config import FrozenConfig, HeadConfig, Positive, Words


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
