"""The shape of an encoder: `EncoderConfig`, frozen and stored as JSON. A compressed model is a configuration plus
weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from harness.common.errors import Code, SkylineError, unknown_name
from harness.common.validation import plain
from harness.models.attention_kinds import (
    AttentionKind,
    LinformerAttention,
    SpanAttention,
)
from harness.models.frozen_config import Count, FrozenConfig, Positive, without_absent

Matrix = Literal["query", "key", "value", "attention_out", "ffn_in", "ffn_out"]
MATRICES: tuple[Matrix, ...] = ("query", "key", "value", "attention_out", "ffn_in", "ffn_out")

COMPONENTS = ("embedding", "attention_in", "attention", "attention_out", "ffn", "head")
"""The survey's components (Ganesh et al. 2021, Figure 3), in the order in which they run."""


ExitRamp = Literal["pooler", "linear", "student"]
"""The classifier on a layer before the last. `pooler`: its own pooler and classifier (DeeBERT); `linear`: its own
classifier behind the head's pooler (PABEE); `student`: a small classifier with attention (FastBERT).
"""


STUDENT_HEADS = 2


def student_size(hidden: int) -> int:
    """Return the width of FastBERT's classifiers: a sixth of `hidden`, as in the released code (128 at 768)."""
    return max(1, hidden // (6 * STUDENT_HEADS)) * STUDENT_HEADS


class ExitRule(FrozenConfig):
    """The rule that decides when a row exits at a ramp.

    `entropy`: the entropy of the prediction, in nats, is below `threshold`. `normalized-entropy`: the entropy divided
    by its maximum is below `threshold`. `patience`: `threshold` ramps in a row agreed with the ramp before them; two
    regression scores agree if they differ by less than `tolerance`. `stated`: every row exits at the ramp number
    `threshold`, whatever its prediction; profiles of untrained architectures use it.
    """

    kind: Literal["entropy", "normalized-entropy", "patience", "stated"]
    threshold: Annotated[float, Field(ge=0)]
    tolerance: Annotated[float, Field(ge=0)] = 0.0


class LayerConfig(FrozenConfig):
    """One layer. The layers of an encoder may differ in every field.

    `ranks` maps a matrix that is stored as a product of two to its rank r (in × r and r × out). `shares_with` is the
    index of an earlier layer whose weights this one uses; both then have the same shape. With 0 heads, or an FFN of
    size 0, only the normalisation of this sub-unit is left: its residual mapping is the identity.

    `attention` is full attention if absent. `kept` is the number of word-vectors that remain after the attention
    (PoWER-BERT: Goyal et al. 2020); if absent, all remain. `exit` is the exit ramp on the layer's output, if any.
    """

    heads: Count = 12
    head_size: Positive = 64
    ffn_size: Count = 3072
    ranks: dict[Matrix, Positive] = Field(default_factory=dict)
    shares_with: Count | None = None
    attention: AttentionKind | None = None
    kept: Positive | None = None
    exit: ExitRamp | None = None

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Older configurations do not have these fields: their text, and so their hash, must not change.
        return without_absent(serialize(self), ("attention", "kept", "exit"))

    @model_validator(mode="after")
    def _each_head_has_its_span(self) -> LayerConfig:
        kind = self.attention
        if isinstance(kind, SpanAttention) and len(kind.spans) != self.heads:
            raise ValueError(f"{len(kind.spans)} spans are given for {self.heads} heads; give one for each")
        return self

    @property
    def own(self) -> LayerConfig:
        """The fields that layers sharing weights must agree on: all except `shares_with`, `kept` and `exit`."""
        return self.model_copy(update={"shares_with": None, "kept": None, "exit": None})

    def fitted(self) -> LayerConfig:
        """Return the layer with one span per head. Surplus spans of removed heads are cut at the end, because the layer
        does not record which heads were removed.
        """
        kind = self.attention
        if not isinstance(kind, SpanAttention) or len(kind.spans) <= self.heads:
            return self
        return self.model_copy(update={"attention": kind.of_heads(range(self.heads)) if self.heads else None})

    @property
    def projection_size(self) -> int:
        """Heads × head size: the width of queries, keys, values and context."""
        return self.heads * self.head_size

    def present(self) -> list[Matrix]:
        """Return the matrices that the layer has; a removed sub-unit has none."""
        attention: list[Matrix] = ["query", "key", "value", "attention_out"] if self.heads else []
        return attention + (["ffn_in", "ffn_out"] if self.ffn_size else [])


HeadKind = Literal["classification", "regression", "span", "none"]
Pooling = Literal["first-token", "mean"]
"""How one vector is made of a row's states: the first token's state, or the mean over the tokens that are present."""


def without_usual_pooling(data: dict[str, Any]) -> dict[str, Any]:
    """Leave out the pooling of BERT, which older configurations do not name."""
    return {name: value for name, value in data.items() if (name, value) != ("pooling", "first-token")}


class HeadConfig(FrozenConfig):
    """The head on the last layer.

    `classification` and `regression`: one vector of the row (see `Pooling`), pooled (dense, tanh) and mapped to
    `outputs` logits. `span`: two logits (start, end) for each token. `none`: no logits, the pooled vector instead.
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
    """Each token's embedding is the sum of `books` vectors: its codes choose one of the `entries` of each code book
    (Shu & Nakayama 2018, equation 2).
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
    """Each token's embedding is a weighted sum of `hashes` vectors out of `buckets` shared ones (Svenstrup et al.
    2017).

    Fixed hash functions of the token's id choose the vectors. Each token has its own weights; with `rows`, other hash
    functions choose each weight among `rows` shared ones.
    """

    kind: Literal["hash"] = "hash"
    buckets: Positive = 4096
    hashes: Annotated[int, Field(ge=1, le=16)] = 2
    rows: Positive | None = None

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As in LayerConfig.
        return without_absent(serialize(self), ("rows",))


Words = Annotated[CodedWords | HashedWords, Field(discriminator="kind")]
"""Word embeddings that are not a table with one row per token."""


class EncoderConfig(FrozenConfig):
    """The shape of the elastic encoder. With equal layers it is BERT (Devlin et al. 2019).

    `embedding_rank` is the rank of factorized word embeddings, `words` describes coded or hashed ones; if both are
    absent, word embeddings are a table. `pooling` says what head and exit ramps read. `exit_rule` decides when a row
    exits at a ramp; if absent, every row runs through all layers. With `segment_positions` "own" the positions of the
    second segment start at 0 again; if absent, they continue from the first segment.
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
    pooling: Pooling = "first-token"
    exit_rule: ExitRule | None = None
    segment_positions: Literal["own"] | None = None

    @classmethod
    def bert(
        cls, layers: int, hidden: int, heads: int | None = None, ffn: int | None = None, **other: object
    ) -> EncoderConfig:
        """Return a BERT with equal layers. By default it has hidden / 64 heads and an FFN of size 4 × hidden."""
        heads = heads if heads is not None else max(1, hidden // 64)
        layer = LayerConfig(heads=heads, head_size=hidden // heads, ffn_size=ffn or 4 * hidden)
        return cls.model_validate({"hidden_size": hidden, "layers": (layer,) * layers, **other})

    @model_serializer(mode="wrap")
    def _leave_out_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As in LayerConfig.
        return without_usual_pooling(
            without_absent(serialize(self), ("words", "exit_rule", "segment_positions"))
        )

    @field_validator("layers", mode="before")
    @classmethod
    def _spans_fit_heads(cls, layers: Any) -> Any:
        if not isinstance(layers, tuple | list):
            return layers
        # Layers given as JSON must fit; only a LayerConfig that was copied with fewer heads has surplus spans.
        return [layer.fitted() if isinstance(layer, LayerConfig) else layer for layer in layers]

    @model_validator(mode="after")
    def _words_are_made_in_one_way(self) -> EncoderConfig:
        if self.words is not None and self.embedding_rank is not None:
            raise ValueError("word embeddings of codes or hashes cannot have a rank")
        return self

    @model_validator(mode="after")
    def _exits_can_be_taken(self) -> EncoderConfig:
        ramps = [index for index, layer in enumerate(self.layers) if layer.exit is not None]
        if ramps and (self.head.kind not in ("classification", "regression") or not self.pooler):
            raise ValueError("exit ramps need a classification or regression head with a pooler")
        if ramps and ramps[-1] == len(self.layers) - 1:
            raise ValueError("the last layer has the head and needs no exit ramp")
        if self.exit_rule is not None and not ramps:
            raise ValueError("an exit rule needs a layer with an exit ramp")
        judged = self.exit_rule is not None and self.exit_rule.kind not in ("patience", "stated")
        if judged and self.head.outputs == 1:
            raise ValueError("regression scores have no entropy; use an exit rule of the kind patience")
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
                raise ValueError(
                    f"layer {index} does not compute how much attention each word-vector gets, so it can eliminate none"
                )
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
        """The number of parameters of the word embeddings: a table, codes and code books, or buckets and weights. The
        projection of a factorized table is not counted here.
        """
        words = self.words
        if isinstance(words, CodedWords):
            return self.vocab_size * words.books + words.books * words.entries * self.hidden_size
        if isinstance(words, HashedWords):
            return words.buckets * self.hidden_size + (words.rows or self.vocab_size) * words.hashes
        return self.vocab_size * (self.embedding_rank or self.hidden_size)

    def with_words(self, words: CodedWords | HashedWords) -> EncoderConfig:
        """Return this configuration with word embeddings of codes or hashes, validated again."""
        return EncoderConfig.model_validate({**self.model_dump(), "words": words})

    def with_layers(self, layers: tuple[LayerConfig, ...]) -> EncoderConfig:
        """Return this configuration with other layers, validated again.

        An exit ramp on the last layer is removed, because the head is there. If no ramp is left, so is the exit rule.
        """
        layers = (*layers[:-1], *(layer.model_copy(update={"exit": None}) for layer in layers[-1:]))
        rule = self.exit_rule if any(layer.exit is not None for layer in layers) else None
        return EncoderConfig.model_validate({**self.model_dump(), "layers": layers, "exit_rule": rule})

    @property
    def exit_depths(self) -> tuple[int, ...]:
        """The numbers of layers after which a row may exit: each layer with a ramp, and the last."""
        ramps = [index + 1 for index, layer in enumerate(self.layers) if layer.exit is not None]
        return (*ramps, len(self.layers))

    def with_exits(self, ramp: ExitRamp, rule: ExitRule | None) -> EncoderConfig:
        """Return this configuration with a ramp on every layer except the last and an exit rule, validated again."""
        layers = tuple(layer.model_copy(update={"exit": ramp}) for layer in self.layers)
        return self.with_layers(layers).with_exit_rule(rule)

    def with_exit_rule(self, rule: ExitRule | None) -> EncoderConfig:
        """Return this configuration with another exit rule, validated again."""
        return EncoderConfig.model_validate({**self.model_dump(), "exit_rule": rule})

    def with_head(self, kind: str, outputs: int) -> EncoderConfig:
        """Return this configuration with another head. Raises SkylineError if there is no such kind, or if a head of
        this kind cannot have this number of outputs.
        """
        if kind not in get_args(HeadKind):
            raise unknown_name("head", kind, get_args(HeadKind))
        try:
            head = HeadConfig.model_validate({"kind": kind, "outputs": outputs})
        except ValidationError as error:
            problem = plain(error.errors()[0]["msg"])
            raise SkylineError(
                f"a {kind} head with {outputs} outputs cannot be made: {problem}", Code.OUT_OF_RANGE
            ) from None
        return self.model_copy(update={"head": head})


def matrix_shape(config: EncoderConfig, layer: LayerConfig, matrix: Matrix) -> tuple[int, int]:
    """Return the (out, in) shape of a layer's matrix."""
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
    """Yield each linear map of the layers: its description, its matrix and its (out, in) shape. A factorized matrix has
    two, one for each factor.
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
