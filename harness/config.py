"""What an encoder looks like: `EncoderConfig`, frozen and JSON. A compressed model is a configuration plus
weights.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from harness.errors import SkylineError, unknown_name

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Matrix = Literal["query", "key", "value", "attention_out", "ffn_in", "ffn_out"]
MATRICES: tuple[Matrix, ...] = ("query", "key", "value", "attention_out", "ffn_in", "ffn_out")

COMPONENTS = ("embedding", "attention_in", "attention", "attention_out", "ffn", "head")
"""The survey's components (Ganesh et al. 2021, Figure 3), in the order in which a batch meets them."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LayerConfig(_Frozen):
    """One layer. Layers of one encoder may differ from each other in every field.

    `ranks` names the matrices that are stored as a product of two (rank r: in × r and r × out). `shares_with`
    is the index of an earlier layer whose weights this one uses; its shape is then that layer's. No heads, or
    an FFN of size 0, leave of the sub-unit its normalisation: the residual mapping is the identity.
    """

    heads: Count = 12
    head_size: Positive = 64
    ffn_size: Count = 3072
    ranks: dict[Matrix, Positive] = {}
    shares_with: Count | None = None

    @property
    def projection_size(self) -> int:
        """Heads × head size: the width of the queries, keys, values and of the context."""
        return self.heads * self.head_size


HeadKind = Literal["classification", "regression", "span", "none"]


class HeadConfig(_Frozen):
    """What stands on the last layer.

    `classification` and `regression`: the first token's state, pooled (dense, tanh) and mapped to `outputs`
    logits; `span`: two logits (start, end) for each token; `none`: no logits.
    """

    kind: HeadKind = "classification"
    outputs: Positive = 2

    @model_validator(mode="after")
    def _outputs_fit_kind(self) -> HeadConfig:
        fixed = {"regression": 1, "span": 2}.get(self.kind)
        if fixed is not None and self.outputs != fixed:
            raise ValueError(f"a {self.kind} head has {fixed} output(s), not {self.outputs}")
        return self


class CodedWords(_Frozen):
    """Each token's embedding is a sum of `books` vectors, one of the `entries` of each code book; its codes say
    which (Shu & Nakayama 2018).
    """

    kind: Literal["codes"] = "codes"
    books: Positive = 32
    entries: Annotated[int, Field(ge=2, le=256)] = 16

    @field_validator("entries")
    @classmethod
    def _fill_their_bits(cls, entries: int) -> int:
        if entries & (entries - 1):
            raise ValueError(f"a code book has 2, 4, 8, … 256 entries, not {entries}")
        return entries

    @property
    def code_bits(self) -> int:
        """Bits of one code: log₂ of the entries."""
        return self.entries.bit_length() - 1


class HashedWords(_Frozen):
    """Each token's embedding is a weighted sum of `hashes` of the `buckets` vectors that all tokens share; fixed
    hashes of its id choose which, and it owns the weights (Svenstrup et al. 2017).
    """

    kind: Literal["hash"] = "hash"
    buckets: Positive = 4096
    hashes: Annotated[int, Field(ge=1, le=16)] = 2


class EncoderConfig(_Frozen):
    """The elastic encoder's shape (Devlin et al. 2019 where every layer is alike).

    `words` says how the word embeddings are made where they are no table with a row for each token.
    """

    vocab_size: Positive = 30522
    hidden_size: Positive = 768
    embedding_rank: Positive | None = None
    words: Annotated[CodedWords | HashedWords, Field(discriminator="kind")] | None = None
    positions: Positive = 512
    segments: Positive = 2
    layers: Annotated[tuple[LayerConfig, ...], Field(min_length=1)]
    head: HeadConfig = HeadConfig()
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-12
    pooler: bool = True

    @classmethod
    def bert(
        cls, layers: int, hidden: int, heads: int | None = None, ffn: int | None = None, **other: object
    ) -> EncoderConfig:
        """A BERT with `layers` equal layers, heads of hidden / 64 and an FFN of 4 × hidden unless told."""
        heads = heads if heads is not None else max(1, hidden // 64)
        layer = LayerConfig(heads=heads, head_size=hidden // heads, ffn_size=ffn or 4 * hidden)
        return cls.model_validate({"hidden_size": hidden, "layers": (layer,) * layers, **other})

    @model_serializer(mode="wrap")
    def _leave_out_absent_words(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Configurations from before there were other kinds than tables keep their text, and so their hashes.
        data: dict[str, Any] = serialize(self)
        return {name: value for name, value in data.items() if name != "words" or value is not None}

    @model_validator(mode="after")
    def _words_are_made_in_one_way(self) -> EncoderConfig:
        if self.words is not None and self.embedding_rank is not None:
            raise ValueError("word embeddings of codes or hashes have no rank")
        return self

    @model_validator(mode="after")
    def _sharing_points_back(self) -> EncoderConfig:
        for index, layer in enumerate(self.layers):
            source = layer.shares_with
            if source is None:
                continue
            if source >= index or self.layers[source].shares_with is not None:
                raise ValueError(f"layer {index} must share with an earlier layer that owns its weights")
            if layer.model_copy(update={"shares_with": None}) != self.layers[source]:
                raise ValueError(f"layer {index} shares weights with layer {source} but has another shape")
        return self

    @property
    def word_parameters(self) -> int:
        """Parameters of the word embeddings: the table's, codes and code books, or buckets and weights. A factorized
        table's projection is not among them.
        """
        words = self.words
        if isinstance(words, CodedWords):
            return self.vocab_size * words.books + words.books * words.entries * self.hidden_size
        if isinstance(words, HashedWords):
            return words.buckets * self.hidden_size + self.vocab_size * words.hashes
        return self.vocab_size * (self.embedding_rank or self.hidden_size)

    def with_words(self, words: CodedWords | HashedWords) -> EncoderConfig:
        """This configuration with word embeddings of codes or hashes, validated again."""
        return EncoderConfig.model_validate({**self.model_dump(), "words": words})

    def with_layers(self, layers: tuple[LayerConfig, ...]) -> EncoderConfig:
        """This configuration with other layers, validated again."""
        return EncoderConfig.model_validate({**self.model_dump(), "layers": layers})

    def with_head(self, kind: str, outputs: int) -> EncoderConfig:
        """This configuration with another head. Raises SkylineError for an unknown kind or an impossible size."""
        if kind not in get_args(HeadKind):
            raise unknown_name("head", kind, get_args(HeadKind))
        try:
            head = HeadConfig.model_validate({"kind": kind, "outputs": outputs})
        except ValidationError as error:
            problem = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise SkylineError(f"a {kind} head of {outputs} labels cannot be made: {problem}") from None
        return self.model_copy(update={"head": head})
