"""Cut and change encoders: each function makes a new configuration and copies the weights that remain.

Every function returns a new encoder and does not change the given one. Weights that remain keep the codec and the
kernel that a method chose for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from harness.common.errors import Code, SkylineError
from harness.common.validation import plain
from harness.models.attention_kinds import AttentionKind, LinformerAttention, SpanAttention
from harness.models.codecs import Codec, Codes, Pack
from harness.models.config import CodedWords, EncoderConfig, ExitRamp, HashedWords, LayerConfig, Matrix
from harness.models.encoder.attention import Places
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.low_rank import LowRankLinear
from harness.models.initialization import nothing_drawn, without_weights
from harness.models.model import INITIALIZER_RANGE
from harness.models.parametrization import attached
from harness.models.shape_checks import (
    refuse_factorized,
    refuse_hashed_words,
    refuse_other_words,
    refuse_shared,
    refuse_wide_ramps,
)


def keep_layers(model: Encoder, kept: Sequence[int]) -> Encoder:
    """Copy `model` with only the layers `kept`, in that order, and their exit ramps; the last layer loses its ramp.

    Raises SkylineError if `kept` is empty or names a layer that does not exist or that uses another's weights, or if
    the numbers of word-vectors would grow.
    """
    count = len(model.config.layers)
    if not kept or any(not 0 <= index < count for index in kept):
        raise SkylineError(
            f"layers {list(kept)} cannot be kept of {count}; name at least one of 0 … {count - 1}",
            Code.OUT_OF_RANGE,
        )
    configs = model.config.layers
    if any(configs[index].shares_with is not None for index in kept):
        raise SkylineError(
            "layers that share weights cannot be separated; keep the layers that own them", Code.WRONG_SHAPE
        )

    def source(name: str) -> str:
        part, *rest = name.split(".")
        if part not in ("layers", "exits") or not rest:
            return name
        return ".".join([part, str(kept[int(rest[0])]), *rest[1:]])

    chosen = _with_layers(model.config, [configs[i] for i in kept], f"layers {list(kept)} cannot be kept")
    return _rebuilt(model, chosen, source=source)


def keep_heads(model: Encoder, kept: Sequence[Sequence[int]]) -> Encoder:
    """Copy `model` with only the heads `kept[i]` in layer i: their rows of the query, key and value maps and their
    columns of the output map. A layer without heads keeps only the normalisation.

    Raises SkylineError if a head does not exist or is named twice, if layers share weights or the maps are factorized.
    """
    layers, masks = [], dict[str, tuple[int, Tensor]]()
    refuse_factorized(model.config, ("query", "key", "value", "attention_out"), "heads")
    for index, (layer, heads) in enumerate(_each_layer(model, kept, "heads")):
        _check_indices(heads, layer.heads, "heads", index)
        kind = layer.attention
        if isinstance(kind, SpanAttention):
            kind = kind.of_heads(heads) if heads else None
        # Without attention no word-vectors can be ranked, so none are eliminated.
        changes = {"heads": len(heads), "attention": kind, "kept": layer.kept if heads else None}
        layers.append(layer.model_copy(update=changes))
        columns = torch.arange(layer.projection_size).view(layer.heads, layer.head_size)  # (h, d)
        chosen = columns[list(heads)].flatten()  # (kept heads · d,)
        for name in ("query", "key", "value"):
            for parameter in ("weight", "bias"):
                masks[f"layers.{index}.attention_in.{name}.{parameter}"] = (0, chosen)
        masks[f"layers.{index}.attention_out.dense.weight"] = (1, chosen)
    return _rebuilt(model, model.config.with_layers(tuple(layers)), masks)


def keep_columns(model: Encoder, kept: Sequence[Sequence[int]]) -> Encoder:
    """Copy `model` with only the FFN columns `kept[i]` in layer i: their rows of the first map and their columns of the
    second. A layer without columns keeps only the normalisation.

    Raises SkylineError if a column does not exist or is named twice, if layers share weights or the maps are
    factorized.
    """
    layers, masks = [], dict[str, tuple[int, Tensor]]()
    refuse_factorized(model.config, ("ffn_in", "ffn_out"), "FFN columns")
    for index, (layer, columns) in enumerate(_each_layer(model, kept, "FFN columns")):
        _check_indices(columns, layer.ffn_size, "FFN columns", index)
        layers.append(layer.model_copy(update={"ffn_size": len(columns)}))
        chosen = torch.tensor(list(columns), dtype=torch.long)
        for parameter in ("weight", "bias"):
            masks[f"layers.{index}.ffn.into.{parameter}"] = (0, chosen)
        masks[f"layers.{index}.ffn.out.weight"] = (1, chosen)
    return _rebuilt(model, model.config.with_layers(tuple(layers)), masks)


def keep_hidden(model: Encoder, kept: Sequence[int]) -> Encoder:
    """Copy `model` with only the hidden units `kept` in embeddings, maps, norms, pooler, classifier and exit ramps.

    Raises SkylineError if `kept` is empty, names a unit twice or one that does not exist, or if the width of an exit
    ramp depends on the hidden size.
    """
    config = model.config
    refuse_wide_ramps(config)
    _check_indices(kept, config.hidden_size, "hidden units", None)
    if not kept:
        raise SkylineError("no hidden unit would be left; keep at least one", Code.OUT_OF_RANGE)
    chosen = torch.tensor(list(kept), dtype=torch.long)
    smaller = EncoderConfig.model_validate({**config.model_dump(), "hidden_size": len(kept)})
    old, new = (_empty(c).contents() for c in (config, smaller))
    masks: dict[str, tuple[int, Tensor]] = {}
    both: list[str] = []
    for name, parameter in old.items():
        changed = [d for d, (a, b) in enumerate(zip(parameter.shape, new[name].shape, strict=True)) if a != b]
        if changed:
            masks[name] = (changed[0], chosen)
            both += [name] if len(changed) == 2 else []
    # The pooler is (H, H): cut its columns here and its rows below.
    model = deepcopy(model) if both else model
    for name in both:
        path, _, attribute = name.rpartition(".")
        module = model.get_submodule(path)
        setattr(module, attribute, nn.Parameter(getattr(module, attribute).data[:, chosen]))
    return _rebuilt(model, smaller, masks)


def factorize(model: Encoder, ranks: Mapping[Matrix, int], layers: Sequence[int] | None = None) -> Encoder:
    """Copy `model` with matrices of `layers` (default: all) as products of two, each of the rank that `ranks` gives.

    The factors are from the truncated singular value decomposition W ≈ (U √S)(√S Vᵀ), the nearest matrix of this rank
    (Eckart & Young 1936). Raises SkylineError if a matrix is factorized already or its rank exceeds its smaller side.
    """
    chosen = range(len(model.config.layers)) if layers is None else layers
    configs = list(model.config.layers)
    for index in chosen:
        configs[index] = configs[index].model_copy(update={"ranks": {**configs[index].ranks, **ranks}})
    for index in range(len(configs)):  # a layer that shares has its source's shape
        source = configs[index].shares_with
        if source is not None:
            own = {"shares_with": source, "kept": configs[index].kept, "exit": configs[index].exit}
            configs[index] = configs[source].model_copy(update=own)
    values: dict[str, Tensor] = {}
    for index in chosen:
        layer = model.layers[index]
        for kind, matrix in layer.matrices().items():  # type: ignore[operator]
            if kind not in ranks:
                continue
            path = next(name for name, module in model.named_modules() if module is matrix)
            if isinstance(matrix, LowRankLinear):
                raise SkylineError(
                    f"{kind} of layer {index} is factorized already; leave it out", Code.WRONG_SHAPE
                )
            if ranks[kind] > min(matrix.weight.shape):
                raise SkylineError(
                    f"rank {ranks[kind]} exceeds the smaller side of {kind} in layer {index}, "
                    f"{min(matrix.weight.shape)}; use a smaller rank",
                    Code.OUT_OF_RANGE,
                )
            first, second = truncated_svd(matrix.weight.data, ranks[kind])
            values[f"{path}.first.weight"], values[f"{path}.second.weight"] = first, second
            values[f"{path}.second.bias"] = matrix.bias.data
    return _rebuilt(model, model.config.with_layers(tuple(configs)), values=values)


def factorize_embedding(model: Encoder, rank: int) -> Encoder:
    """Copy `model` with word embeddings (V, rank) times a projection (rank, H), by truncated SVD. Raises SkylineError
    if the word embeddings are not a table, or if the rank is not below the hidden size.
    """
    config = model.config
    refuse_other_words(config)
    if not 0 < rank < config.hidden_size:
        raise SkylineError(
            f"rank {rank} is not below the hidden size {config.hidden_size}; use a smaller one",
            Code.OUT_OF_RANGE,
        )
    project, word = truncated_svd(model.embedding.word.weight.data, rank)
    smaller = EncoderConfig.model_validate({**config.model_dump(), "embedding_rank": rank})
    return _rebuilt(
        model, smaller, values={"embedding.word.weight": word, "embedding.project.weight": project.T}
    )


def code_words(model: Encoder, codes: Tensor, books: Tensor) -> Encoder:
    """Copy `model` with word embeddings that are sums of code-book entries: `codes` (V, M) into `books` (M, K, H). The
    artifact stores a code in log₂ K bits. Raises SkylineError if the word embeddings are not a table.
    """
    refuse_other_words(model.config)
    words = CodedWords(books=books.shape[0], entries=books.shape[1])
    values = {"embedding.word.weight": books.flatten(0, 1), "embedding.word.codes": codes}
    student = _rebuilt(model, model.config.with_words(words), values=values)
    student.storage.codecs["embedding.word.codes"] = Codec((Codes(words.code_bits), Pack(words.code_bits)))
    return student


def hash_words(model: Encoder, buckets: Tensor, importance: Tensor) -> Encoder:
    """Copy `model` with word embeddings that are weighted sums of hashed buckets: `buckets` (B, H) and the weights
    `importance` (V, k). Raises SkylineError if the word embeddings are not a table.
    """
    refuse_other_words(model.config)
    words = HashedWords(buckets=len(buckets), hashes=importance.shape[1])
    values = {"embedding.word.weight": buckets, "embedding.word.importance": importance}
    return _rebuilt(model, model.config.with_words(words), values=values)


def keep_vocabulary(model: Encoder, kept: Sequence[int]) -> Encoder:
    """Copy `model` with only the tokens `kept` in word embeddings and tokenizer. Their new ids follow this order.

    Raises SkylineError if word embeddings are hashed, if `kept` is empty, names a token twice or one that does not
    exist, or if the tokenizer needs a token that is not kept (see `Tokenizer.keep`).
    """
    config = model.config
    refuse_hashed_words(config)
    _check_indices(kept, config.vocab_size, "tokens", None)
    if not kept:
        raise SkylineError("no token would be left; keep at least one", Code.OUT_OF_RANGE)
    name = "embedding.word.weight" if config.words is None else "embedding.word.codes"
    smaller = EncoderConfig.model_validate({**config.model_dump(), "vocab_size": len(kept)})
    student = _rebuilt(model, smaller, {name: (0, torch.tensor(list(kept)))})
    student.tokenizer = None if model.tokenizer is None else model.tokenizer.keep(kept)
    return student


def add_exits(model: Encoder, ramp: ExitRamp, generator: torch.Generator) -> Encoder:
    """Copy `model` with an exit ramp on every layer except the last, and without an exit rule.

    A ramp of the kind "pooler" starts as a copy of the head (Xin et al. 2020, released code); the others start from
    BERT's initial weights, drawn by `generator`.
    """
    config = model.config.with_exits(ramp, None)
    ramps = Encoder(config).exits
    for module in ramps.modules():
        if isinstance(module, nn.Linear):
            module.weight.data.normal_(0.0, INITIALIZER_RANGE, generator=generator)
            module.bias.data.zero_()
    values = {f"exits.{name}": tensor for name, tensor in ramps.state_dict().items()}
    if ramp == "pooler":
        head = model.head.state_dict()
        values = {name: head[name.split(".", 2)[2]] for name in values}
    return _rebuilt(model, config, values=values)


def share_layers(model: Encoder, sources: Sequence[int | None]) -> Encoder:
    """Copy `model` such that layer i uses the weights of layer `sources[i]`, or its own if this is None.

    Raises SkylineError if a source is not an earlier layer, does not own its weights or has another shape.
    """
    layers = list(model.config.layers)
    if len(sources) != len(layers):
        raise SkylineError(
            f"{len(sources)} sources were given for {len(layers)} layers; give one for each", Code.INCOMPLETE
        )
    owners = [layer.model_copy(update={"shares_with": None}) for layer in layers]
    configs = tuple(
        owner.model_copy(update={"shares_with": source})
        for owner, source in zip(owners, sources, strict=True)
    )
    return _rebuilt(model, _with_layers(model.config, configs, "layers cannot share like that"))


def set_attention(model: Encoder, kind: AttentionKind | None, layers: Sequence[int] | None = None) -> Encoder:
    """Copy `model` with another kind of attention in `layers` (default: all); None is full attention. Linformer's
    projections start as means over blocks of tokens.

    Raises SkylineError if layers that share weights would differ, if a layer that eliminates word-vectors would not
    compute their significance, or if the kind does not fit the encoder's heads or positions.
    """
    configs = list(model.config.layers)
    for index in range(len(configs)) if layers is None else layers:
        configs[index] = configs[index].model_copy(update={"attention": kind})
    config = _with_layers(model.config, configs, "attention cannot be of that kind")
    values = {
        f"layers.{index}.attention_in.places.{name}": tensor
        for index in range(len(configs))
        if isinstance(kind, LinformerAttention)
        for name, tensor in Places(kind).state_dict().items()
    }
    return _rebuilt(model, config, values=values)


def keep_word_vectors(model: Encoder, kept: Sequence[int | None]) -> Encoder:
    """Copy `model` such that only the `kept[i]` most significant word-vectors remain after layer i's attention; None
    keeps all. Raises SkylineError if the numbers grow, if a layer does not compute the significance (see
    `significance`), or if the head reads every token.
    """
    if len(kept) != len(model.config.layers):
        raise SkylineError(
            f"{len(kept)} numbers of word-vectors were given for {len(model.config.layers)} layers; give one for each",
            Code.INCOMPLETE,
        )
    if any(count is not None and count < 1 for count in kept):
        raise SkylineError("no word-vector would be left; keep at least one in each layer", Code.OUT_OF_RANGE)
    configs = [
        layer.model_copy(update={"kept": count})
        for layer, count in zip(model.config.layers, kept, strict=True)
    ]
    return _rebuilt(model, _with_layers(model.config, configs, "word-vectors cannot be eliminated like that"))


def keep_positions(model: Encoder, count: int) -> Encoder:
    """Copy `model` with only the first `count` positions. Raises SkylineError if it has fewer."""
    config = model.config
    if not 0 < count <= config.positions:
        raise SkylineError(
            f"{count} positions cannot be kept of {config.positions}; use 1 … {config.positions}",
            Code.OUT_OF_RANGE,
        )
    shorter = EncoderConfig.model_validate({**config.model_dump(), "positions": count})
    return _rebuilt(model, shorter, {"embedding.position.weight": (0, torch.arange(count))})


def own_segment_positions(model: Encoder) -> Encoder:
    """Copy `model` such that the second segment's positions start at 0 again: its embeddings then do not depend on the
    first segment.
    """
    config = EncoderConfig.model_validate({**model.config.model_dump(), "segment_positions": "own"})
    return _rebuilt(model, config)


def truncated_svd(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return `first` (rank, in) and `second` (out, rank) such that `weight` (out, in) ≈ second @ first. Each factor
    holds the square roots of the singular values.
    """
    matrix = weight.double()
    if wide := matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T  # (long, short)
    # The eigenvectors of the smaller Gram matrix: three times as fast as a full SVD. Squaring costs digits, but in
    # double precision none that float32 could hold.
    right = torch.linalg.eigh(matrix.T @ matrix).eigenvectors.flip(1)[:, :rank]  # (short, rank)
    left = matrix @ right  # (long, rank): left singular vectors × singular values
    root = left.norm(dim=0).sqrt()
    first, second = (right * root).T, torch.where(root > 0, left / root, 0.0)
    if wide:
        first, second = second.T, first.T
    return first.to(weight.dtype).contiguous(), second.to(weight.dtype).contiguous()


def _each_layer(
    model: Encoder, kept: Sequence[Sequence[int]], what: str
) -> list[tuple[LayerConfig, Sequence[int]]]:
    layers = model.config.layers
    if len(kept) != len(layers):
        raise SkylineError(
            f"{what} of {len(kept)} layers were given for {len(layers)}; give one list a layer",
            Code.INCOMPLETE,
        )
    refuse_shared(model.config, what)
    return list(zip(layers, kept, strict=True))


def _check_indices(kept: Sequence[int], count: int, what: str, layer: int | None) -> None:
    if any(not 0 <= index < count for index in kept) or len(set(kept)) != len(kept):
        where = "" if layer is None else f" of layer {layer}"
        raise SkylineError(
            f"{what}{where} must be different numbers in 0 … {count - 1}, not {list(kept)[:8]}",
            Code.OUT_OF_RANGE,
        )


def _with_layers(config: EncoderConfig, layers: Sequence[LayerConfig], what: str) -> EncoderConfig:
    """Return `config` with other layers. If they cannot form an encoder, raise SkylineError: `what`, and the reason."""
    try:
        return config.with_layers(tuple(layers))
    except ValidationError as error:
        raise SkylineError(f"{what}: {plain(error.errors()[0]['msg'])}", Code.WRONG_SHAPE) from None


def _empty(config: EncoderConfig) -> Encoder:
    with without_weights():
        return Encoder(config)


def _rebuilt(
    model: Encoder,
    config: EncoderConfig,
    masks: Mapping[str, tuple[int, Tensor]] | None = None,
    values: Mapping[str, Tensor] | None = None,
    source: Callable[[str], str] = lambda name: name,
) -> Encoder:
    """Make an encoder of `config` with `model`'s tokenizer, storage and weights.

    A weight comes from `values` if it is there, otherwise from `model`, where its name is `source(name)`; `masks`
    selects slices of it (dimension, indices).
    """
    if left := attached(model):
        raise SkylineError(
            f"'{left[0]}' is still parametrized; bake it before cutting the encoder", Code.WRONG_ORDER
        )
    with nothing_drawn():
        student = Encoder(config, model.tokenizer, model.origin)
    old = model.state_dict()
    state: dict[str, Tensor] = {}
    # Shared weights appear once, under their first name: values under the other names would overwrite them.
    for name in student.contents():
        if values is not None and name in values:
            state[name] = values[name]
            continue
        tensor = old[source(name)]
        if masks is not None and name in masks:
            dimension, chosen = masks[name]
            tensor = tensor.index_select(dimension, chosen.to(tensor.device))
        state[name] = tensor
    student.load_state_dict(state, strict=False)
    storage = model.storage
    student.storage.codecs = {n: storage.codecs[source(n)] for n in state if source(n) in storage.codecs}
    student.storage.kernels = {
        path: storage.kernels[source(path)]
        for path, _ in student.named_modules()
        if source(path) in storage.kernels
    }
    return student.to(next(model.parameters()).device).train(model.training)
