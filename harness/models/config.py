"""What an encoder looks like: `EncoderConfig`, frozen and JSON. A compressed model is a configuration plus
weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from math import ceil
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

from harness.common.errors import SkylineError, unknown_name

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Matrix = Literal["query", "key", "value", "attention_out", "ffn_in", "ffn_out"]
MATRICES: tuple[Matrix, ...] = ("query", "key", "value", "attention_out", "ffn_in", "ffn_out")

COMPONENTS = ("embedding", "attention_in", "attention", "attention_out", "ffn", "head")
"""The survey's components (Ganesh et al. 2021, Figure 3), in the order in which a batch meets them."""


class FrozenConfig(BaseModel):
    """A part of a configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _without_absent(data: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in names or value is not None}


ExitRamp = Literal["pooler", "linear", "student"]
"""What classifies on a layer before the last: a pooler and a classifier of its own (DeeBERT), a classifier behind the
shared pooler (PABEE), or a small attention classifier (FastBERT).
"""


STUDENT_HEADS = 2


def student_size(hidden: int) -> int:
    """The width of FastBERT's classifiers on states of size `hidden`: a sixth, the 128 of the released code at 768."""
    return max(1, hidden // (6 * STUDENT_HEADS)) * STUDENT_HEADS


class ExitRule(FrozenConfig):
    """When a row leaves at a ramp: its `entropy` (in nats) below the threshold, the entropy as a share of its largest
    (`normalized-entropy`) below it, or the prediction of the ramp before so many times in a row (`patience`; of scores,
    less than `tolerance` from each other). `stated`: every row, whatever it says, at the threshold-th ramp, which
    profiles of untrained architectures use.
    """

    kind: Literal["entropy", "normalized-entropy", "patience", "stated"]
    threshold: Annotated[float, Field(ge=0)]
    tolerance: Annotated[float, Field(ge=0)] = 0.0


class LocalAttention(FrozenConfig):
    """Each token attends to those at most `window` places away, and to the first token; that one attends to all."""

    kind: Literal["local"] = "local"
    window: Positive = 16


class TopKAttention(FrozenConfig):
    """Each query keeps its `k` largest scores, and those equal to the last of them (Zhao et al. 2019)."""

    kind: Literal["topk"] = "topk"
    k: Positive = 8


class LinformerAttention(FrozenConfig):
    """Keys and values of up to `length` tokens are projected to `projected` places (Wang et al. 2020); keys and values
    have a projection each, or `shared_kv` one.

    Place j stands for the tokens from j · length / projected on; of a sequence that ends before it, it is left out.
    """

    kind: Literal["linformer"] = "linformer"
    projected: Positive = 64
    length: Positive = 128
    shared_kv: bool = False

    @model_validator(mode="after")
    def _compresses(self) -> LinformerAttention:
        if self.projected > self.length:
            raise ValueError(f"{self.length} tokens cannot be projected to {self.projected} places")
        return self

    def places(self, tokens: int) -> int:
        """How many places a sequence of so many tokens has."""
        return min(self.projected, -(-tokens * self.projected // self.length))

    def start(self, place: int) -> int:
        """The first of the tokens that a place stands for."""
        return place * self.length // self.projected


class SegmentAttention(FrozenConfig):
    """Tokens attend to those of their own segment alone (the lower layers of DeFormer: Cao et al. 2020)."""

    kind: Literal["segments"] = "segments"


class SpanAttention(FrozenConfig):
    """Each head attends through a soft window of its own (Sukhbaatar et al. 2019): with the weight 1 to tokens at most
    its span away, with (ramp + span − distance) / ramp to those a little farther, with none from `ramp` + span on.
    """

    kind: Literal["span"] = "span"
    ramp: Positive = 32
    spans: Annotated[tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...], Field(min_length=1)]

    @property
    def windows(self) -> tuple[int, ...]:
        """How many places away each head still attends to."""
        return tuple(ceil(self.ramp + span) - 1 for span in self.spans)

    def of_heads(self, heads: Iterable[int]) -> SpanAttention:
        """The windows of some heads."""
        return self.model_copy(update={"spans": tuple(self.spans[head] for head in heads)})


AttentionKind = Annotated[
    LocalAttention | TopKAttention | LinformerAttention | SegmentAttention | SpanAttention,
    Field(discriminator="kind"),
]
"""Attention that is not from each token to every other."""


class LayerConfig(FrozenConfig):
    """One layer. Layers of one encoder may differ from each other in every field.

    `ranks` names the matrices that are stored as a product of two (rank r: in × r and r × out). `shares_with`
    is the index of an earlier layer whose weights this one uses; its shape is then that layer's. No heads, or
    an FFN of size 0, leave of the sub-unit its normalisation: the residual mapping is the identity.

    `attention` is full where absent. `kept` is the number of word-vectors that go on from the attention (PoWER-BERT:
    Goyal et al. 2020), all where absent. `exit` is the ramp on the layer's output, where it has one.
    """

    heads: Count = 12
    head_size: Positive = 64
    ffn_size: Count = 3072
    ranks: dict[Matrix, Positive] = {}
    shares_with: Count | None = None
    attention: AttentionKind | None = None
    kept: Positive | None = None
    exit: ExitRamp | None = None

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Configurations from before there were these fields keep their text, and so their hashes.
        return _without_absent(serialize(self), ("attention", "kept", "exit"))

    @model_validator(mode="after")
    def _each_head_has_its_span(self) -> LayerConfig:
        kind = self.attention
        if isinstance(kind, SpanAttention) and len(kind.spans) != self.heads:
            raise ValueError(f"{len(kind.spans)} spans are given for {self.heads} heads; give one for each")
        return self

    @property
    def own(self) -> LayerConfig:
        """What layers that share weights must have in common: all but where weights come from, the word-vectors that go
        on and the exit ramp.
        """
        return self.model_copy(update={"shares_with": None, "kept": None, "exit": None})

    def fitted(self) -> LayerConfig:
        """The layer without the spans of heads that it has no longer: the first ones stay, as nobody says which were
        cut.
        """
        kind = self.attention
        if not isinstance(kind, SpanAttention) or len(kind.spans) <= self.heads:
            return self
        return self.model_copy(update={"attention": kind.of_heads(range(self.heads)) if self.heads else None})

    @property
    def projection_size(self) -> int:
        """Heads × head size: the width of the queries, keys, values and of the context."""
        return self.heads * self.head_size

    def present(self) -> list[Matrix]:
        """The matrices that it has: those of the sub-units that are there."""
        attention: list[Matrix] = ["query", "key", "value", "attention_out"] if self.heads else []
        return attention + (["ffn_in", "ffn_out"] if self.ffn_size else [])


HeadKind = Literal["classification", "regression", "span", "none"]


class HeadConfig(FrozenConfig):
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


class CodedWords(FrozenConfig):
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


class HashedWords(FrozenConfig):
    """Each token's embedding is a weighted sum of `hashes` of the `buckets` vectors that all tokens share; fixed
    hashes of its id choose which, and it owns the weights (Svenstrup et al. 2017). With `rows` it does not: other
    hashes of its id choose each weight among so many.
    """

    kind: Literal["hash"] = "hash"
    buckets: Positive = 4096
    hashes: Annotated[int, Field(ge=1, le=16)] = 2
    rows: Positive | None = None

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As in a layer.
        return _without_absent(serialize(self), ("rows",))


Words = Annotated[CodedWords | HashedWords, Field(discriminator="kind")]
"""How word embeddings are made that are no table."""


class EncoderConfig(FrozenConfig):
    """The elastic encoder's shape (Devlin et al. 2019 where every layer is alike).

    `words` says how the word embeddings are made where they are no table with a row for each token; `exit_rule` when a
    row leaves at a ramp (never, where absent: the last layer answers); `segment_positions` whether the second segment's
    positions begin anew (they go on from the first's, where absent).
    """

    vocab_size: Positive = 30522
    hidden_size: Positive = 768
    embedding_rank: Positive | None = None
    words: Words | None = None
    positions: Positive = 512
    segments: Positive = 2
    layers: Annotated[tuple[LayerConfig, ...], Field(min_length=1)]
    head: HeadConfig = HeadConfig()
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-12
    pooler: bool = True
    exit_rule: ExitRule | None = None
    segment_positions: Literal["own"] | None = None

    @classmethod
    def bert(
        cls, layers: int, hidden: int, heads: int | None = None, ffn: int | None = None, **other: object
    ) -> EncoderConfig:
        """A BERT with `layers` equal layers, heads of hidden / 64 and an FFN of 4 × hidden unless told."""
        heads = heads if heads is not None else max(1, hidden // 64)
        layer = LayerConfig(heads=heads, head_size=hidden // heads, ffn_size=ffn or 4 * hidden)
        return cls.model_validate({"hidden_size": hidden, "layers": (layer,) * layers, **other})

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As in a layer.
        return _without_absent(serialize(self), ("words", "exit_rule", "segment_positions"))

    @field_validator("layers", mode="before")
    @classmethod
    def _spans_fit_heads(cls, layers: Any) -> Any:
        if not isinstance(layers, tuple | list):
            return layers
        # Only layers that were made before can have lost heads since.
        return [layer.fitted() if isinstance(layer, LayerConfig) else layer for layer in layers]

    @model_validator(mode="after")
    def _words_are_made_in_one_way(self) -> EncoderConfig:
        if self.words is not None and self.embedding_rank is not None:
            raise ValueError("word embeddings of codes or hashes have no rank")
        return self

    @model_validator(mode="after")
    def _exits_can_be_taken(self) -> EncoderConfig:
        ramps = [index for index, layer in enumerate(self.layers) if layer.exit is not None]
        if ramps and (self.head.kind not in ("classification", "regression") or not self.pooler):
            raise ValueError("exit ramps need a pooled head of classes or scores")
        if ramps and ramps[-1] == len(self.layers) - 1:
            raise ValueError("the last layer has the head and needs no exit ramp")
        if self.exit_rule is not None and not ramps:
            raise ValueError("an exit rule needs a layer with an exit ramp")
        judged = self.exit_rule is not None and self.exit_rule.kind not in ("patience", "stated")
        if judged and self.head.outputs == 1:
            raise ValueError("scores have no entropy; rows can leave by patience only")
        return self

    @model_validator(mode="after")
    def _eliminated_vectors_stay_away(self) -> EncoderConfig:
        kept = [layer.kept for layer in self.layers if layer.kept is not None]
        if kept and self.head.kind == "span":
            raise ValueError("spans need every token's vector, so none can be eliminated")
        for index, layer in enumerate(self.layers):
            if layer.kept is not None and (
                not layer.heads or isinstance(layer.attention, LinformerAttention)
            ):
                raise ValueError(f"layer {index} does not show the attention that each word-vector gets")
        if any(after > before for before, after in pairwise(kept)):
            raise ValueError("the word-vectors kept must not grow from layer to layer")
        return self

    @model_validator(mode="after")
    def _sequences_fit_projections(self) -> EncoderConfig:
        for layer in self.layers:
            kind = layer.attention
            if isinstance(kind, LinformerAttention) and kind.length < self.positions:
                raise ValueError(
                    f"projections of {kind.length} tokens cannot take {self.positions} positions"
                )
        return self

    @model_validator(mode="after")
    def _sharing_points_back(self) -> EncoderConfig:
        for index, layer in enumerate(self.layers):
            source = layer.shares_with
            if source is None:
                continue
            if source >= index or self.layers[source].shares_with is not None:
                raise ValueError(f"layer {index} must share with an earlier layer that owns its weights")
            if layer.own != self.layers[source].own:
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
            return words.buckets * self.hidden_size + (words.rows or self.vocab_size) * words.hashes
        return self.vocab_size * (self.embedding_rank or self.hidden_size)

    def with_words(self, words: CodedWords | HashedWords) -> EncoderConfig:
        """This configuration with word embeddings of codes or hashes, validated again."""
        return EncoderConfig.model_validate({**self.model_dump(), "words": words})

    def with_layers(self, layers: tuple[LayerConfig, ...]) -> EncoderConfig:
        """This configuration with other layers, validated again. A ramp on the last of them goes, since the head is
        there, and with the last ramp the exit rule.
        """
        layers = (*layers[:-1], *(layer.model_copy(update={"exit": None}) for layer in layers[-1:]))
        rule = self.exit_rule if any(layer.exit is not None for layer in layers) else None
        return EncoderConfig.model_validate({**self.model_dump(), "layers": layers, "exit_rule": rule})

    @property
    def exit_depths(self) -> tuple[int, ...]:
        """After how many layers a row may leave: those with a ramp, and the last."""
        ramps = [index + 1 for index, layer in enumerate(self.layers) if layer.exit is not None]
        return (*ramps, len(self.layers))

    def with_exits(self, ramp: ExitRamp, rule: ExitRule | None) -> EncoderConfig:
        """This configuration with a ramp on every layer but the last, and a rule to leave by; validated again."""
        layers = tuple(layer.model_copy(update={"exit": ramp}) for layer in self.layers)
        return self.with_layers(layers).with_exit_rule(rule)

    def with_exit_rule(self, rule: ExitRule | None) -> EncoderConfig:
        """This configuration with another exit rule, validated again."""
        return EncoderConfig.model_validate({**self.model_dump(), "exit_rule": rule})

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


def matrix_shape(config: EncoderConfig, layer: LayerConfig, matrix: Matrix) -> tuple[int, int]:
    """The (out, in) shape of a layer's matrix."""
    hidden, projected, columns = config.hidden_size, layer.projection_size, layer.ffn_size
    return {
        "query": (projected, hidden),
        "key": (projected, hidden),
        "value": (projected, hidden),
        "attention_out": (hidden, projected),
        "ffn_in": (columns, hidden),
        "ffn_out": (hidden, columns),
    }[matrix]


def linear_maps(config: EncoderConfig) -> Iterator[tuple[str, Matrix, tuple[int, int]]]:
    """What each linear map of the layers is in words, which matrix it belongs to, and its (out, in) shape; of a
    factorized matrix, both factors.
    """
    for index, layer in enumerate(config.layers):
        for matrix in layer.present():
            outputs, inputs = matrix_shape(config, layer, matrix)
            rank = layer.ranks.get(matrix)
            if rank is None:
                yield f"{matrix} in layer {index}", matrix, (outputs, inputs)
            else:
                yield f"the first factor of {matrix} in layer {index}", matrix, (rank, inputs)
                yield f"the second factor of {matrix} in layer {index}", matrix, (outputs, rank)
