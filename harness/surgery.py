"""Encoders cut from encoders: a new configuration with the weights that it keeps.

Every function returns a new encoder and leaves the given one as it is. What a method chose for storage stays
chosen for the weights that are still there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from harness.codecs import Codec, Codes, Pack
from harness.config import CodedWords, EncoderConfig, HashedWords, LayerConfig, Matrix
from harness.encoder import Encoder, LowRankLinear
from harness.errors import SkylineError
from harness.parametrized import attached
from harness.refusals import (
    refuse_factorized,
    refuse_hashed_words,
    refuse_other_words,
    refuse_shared,
)


def keep_layers(model: Encoder, kept: Sequence[int]) -> Encoder:
    """A copy of `model` with only the layers `kept`, in that order. Raises SkylineError for none, or one that
    is not there.
    """
    count = len(model.config.layers)
    if not kept or any(not 0 <= index < count for index in kept):
        raise SkylineError(
            f"layers {list(kept)} cannot be kept of {count}; name at least one of 0 … {count - 1}"
        )
    configs = model.config.layers
    if any(configs[index].shares_with is not None for index in kept):
        raise SkylineError("layers that share weights cannot be picked apart; keep the layers that own them")

    def source(name: str) -> str:
        layers, *rest = name.split(".")
        if layers != "layers" or not rest:
            return name
        return ".".join(["layers", str(kept[int(rest[0])]), *rest[1:]])

    return _rebuilt(model, model.config.with_layers(tuple(configs[i] for i in kept)), source=source)


def keep_heads(model: Encoder, kept: Sequence[Sequence[int]]) -> Encoder:
    """A copy of `model` whose layer i has only the heads `kept[i]`: their rows of the query, key and value maps
    and their columns of the output map. A layer without heads keeps its normalisation only.
    """
    layers, masks = [], dict[str, tuple[int, Tensor]]()
    refuse_factorized(model.config, ("query", "key", "value", "attention_out"), "heads")
    for index, (layer, heads) in enumerate(_each_layer(model, kept, "heads")):
        _check_indices(heads, layer.heads, "heads", index)
        layers.append(layer.model_copy(update={"heads": len(heads)}))
        columns = torch.arange(layer.projection_size).view(layer.heads, layer.head_size)
        chosen = columns[list(heads)].flatten()
        for name in ("query", "key", "value"):
            for parameter in ("weight", "bias"):
                masks[f"layers.{index}.attention_in.{name}.{parameter}"] = (0, chosen)
        masks[f"layers.{index}.attention_out.dense.weight"] = (1, chosen)
    return _rebuilt(model, model.config.with_layers(tuple(layers)), masks)


def keep_columns(model: Encoder, kept: Sequence[Sequence[int]]) -> Encoder:
    """A copy of `model` whose layer i has only the FFN columns `kept[i]`: their rows of the first map and their
    columns of the second. A layer without columns keeps its normalisation only.
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
    """A copy of `model` with only the hidden units `kept`, everywhere: in the embeddings, at both ends of every
    map, in the norms, the pooler and the classifier.
    """
    config = model.config
    _check_indices(kept, config.hidden_size, "hidden units", None)
    if not kept:
        raise SkylineError("no hidden unit would be left; keep at least one")
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
    # The pooler is hidden × hidden: cut its columns first.
    model = deepcopy(model) if both else model
    for name in both:
        path, _, attribute = name.rpartition(".")
        module = model.get_submodule(path)
        setattr(module, attribute, nn.Parameter(getattr(module, attribute).data[:, chosen]))
    return _rebuilt(model, smaller, masks)


def factorize(model: Encoder, ranks: Mapping[Matrix, int], layers: Sequence[int] | None = None) -> Encoder:
    """A copy of `model` with the named matrices of `layers` (all, if absent) as products of two, from the
    truncated singular value decomposition W ≈ (U √S)(√S Vᵀ), which is the nearest of that rank (Eckart & Young
    1936).

    Raises SkylineError where a matrix is factorized already or its rank exceeds its smaller side.
    """
    chosen = range(len(model.config.layers)) if layers is None else layers
    configs = list(model.config.layers)
    for index in chosen:
        configs[index] = configs[index].model_copy(update={"ranks": {**configs[index].ranks, **ranks}})
    for index in range(len(configs)):  # a layer that shares has its source's shape
        source = configs[index].shares_with
        if source is not None:
            configs[index] = configs[source].model_copy(update={"shares_with": source})
    values: dict[str, Tensor] = {}
    for index in chosen:
        layer = model.layers[index]
        for kind, matrix in layer.matrices().items():  # type: ignore[operator]
            if kind not in ranks:
                continue
            path = next(name for name, module in model.named_modules() if module is matrix)
            if isinstance(matrix, LowRankLinear):
                raise SkylineError(f"{kind} of layer {index} is factorized already; leave it out")
            if ranks[kind] > min(matrix.weight.shape):
                raise SkylineError(
                    f"rank {ranks[kind]} exceeds the smaller side of {kind} in layer {index}, "
                    f"{min(matrix.weight.shape)}; use a smaller rank"
                )
            first, second = truncated_svd(matrix.weight.data, ranks[kind])
            values[f"{path}.first.weight"], values[f"{path}.second.weight"] = first, second
            values[f"{path}.second.bias"] = matrix.bias.data
    return _rebuilt(model, model.config.with_layers(tuple(configs)), values=values)


def factorize_embedding(model: Encoder, rank: int) -> Encoder:
    """A copy of `model` whose word embeddings are (vocabulary × rank)(rank × hidden), by truncated SVD. Raises
    SkylineError where they are no dense matrix, or the rank is not below the hidden size.
    """
    config = model.config
    refuse_other_words(config)
    if not 0 < rank < config.hidden_size:
        raise SkylineError(
            f"rank {rank} is not below the hidden size {config.hidden_size}; use a smaller one"
        )
    project, word = truncated_svd(model.embedding.word.weight.data, rank)
    smaller = EncoderConfig.model_validate({**config.model_dump(), "embedding_rank": rank})
    return _rebuilt(
        model, smaller, values={"embedding.word.weight": word, "embedding.project.weight": project.T}
    )


def code_words(model: Encoder, codes: Tensor, books: Tensor) -> Encoder:
    """A copy of `model` whose word embeddings are sums of code-book entries: `codes` (V, M) into `books` (M, K, H).
    Its artifact stores a code in log₂ K bits. Raises SkylineError where the embeddings are no dense matrix.
    """
    refuse_other_words(model.config)
    words = CodedWords(books=books.shape[0], entries=books.shape[1])
    values = {"embedding.word.weight": books.flatten(0, 1), "embedding.word.codes": codes}
    student = _rebuilt(model, model.config.with_words(words), values=values)
    student.storage.codecs["embedding.word.codes"] = Codec((Codes(words.code_bits), Pack(words.code_bits)))
    return student


def hash_words(model: Encoder, buckets: Tensor, importance: Tensor) -> Encoder:
    """A copy of `model` whose word embeddings are weighted sums of hashed buckets: `buckets` (B, H), and the weights
    `importance` (V, k). Raises SkylineError where the embeddings are no dense matrix.
    """
    refuse_other_words(model.config)
    words = HashedWords(buckets=len(buckets), hashes=importance.shape[1])
    values = {"embedding.word.weight": buckets, "embedding.word.importance": importance}
    return _rebuilt(model, model.config.with_words(words), values=values)


def keep_vocabulary(model: Encoder, kept: Sequence[int]) -> Encoder:
    """A copy of `model` with only the tokens `kept`, numbered anew in that order: their rows of the word embeddings
    and a tokenizer that has no others. Raises SkylineError for hashed embeddings, and where the tokenizer cannot do
    without a token (see `Tokenizer.keep`).
    """
    config = model.config
    refuse_hashed_words(config)
    _check_indices(kept, config.vocab_size, "tokens", None)
    if not kept:
        raise SkylineError("no token would be left; keep at least one")
    name = "embedding.word.weight" if config.words is None else "embedding.word.codes"
    smaller = EncoderConfig.model_validate({**config.model_dump(), "vocab_size": len(kept)})
    student = _rebuilt(model, smaller, {name: (0, torch.tensor(list(kept)))})
    student.tokenizer = None if model.tokenizer is None else model.tokenizer.keep(kept)
    return student


def share_layers(model: Encoder, sources: Sequence[int | None]) -> Encoder:
    """A copy of `model` in which layer i uses the weights of layer `sources[i]`, or its own where that is None.

    Raises SkylineError where a source does not come before, does not own its weights or has another shape.
    """
    layers = list(model.config.layers)
    if len(sources) != len(layers):
        raise SkylineError(f"{len(sources)} sources were given for {len(layers)} layers; give one for each")
    owners = [layer.model_copy(update={"shares_with": None}) for layer in layers]
    configs = tuple(
        owner.model_copy(update={"shares_with": source})
        for owner, source in zip(owners, sources, strict=True)
    )
    try:
        config = model.config.with_layers(configs)
    except ValueError as error:
        reason = str(error).partition("Value error, ")[2].partition(" [type")[0]
        raise SkylineError(f"layers cannot share like that: {reason}") from None
    return _rebuilt(model, config)


def truncated_svd(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """`weight` (out, in) ≈ second @ first: first (rank, in) and second (out, rank), each with the root of the
    singular values.
    """
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    root = values[:rank].sqrt()
    first, second = root[:, None] * right[:rank], left[:, :rank] * root
    return first.to(weight.dtype).contiguous(), second.to(weight.dtype).contiguous()


def _each_layer(
    model: Encoder, kept: Sequence[Sequence[int]], what: str
) -> list[tuple[LayerConfig, Sequence[int]]]:
    layers = model.config.layers
    if len(kept) != len(layers):
        raise SkylineError(
            f"{what} of {len(kept)} layers were given for {len(layers)}; give one list a layer"
        )
    refuse_shared(model.config, what)
    return list(zip(layers, kept, strict=True))


def _check_indices(kept: Sequence[int], count: int, what: str, layer: int | None) -> None:
    if any(not 0 <= index < count for index in kept) or len(set(kept)) != len(kept):
        where = "" if layer is None else f" of layer {layer}"
        raise SkylineError(f"{what}{where} must be different ones of 0 … {count - 1}, not {list(kept)[:8]}")


def _empty(config: EncoderConfig) -> Encoder:
    with torch.device("meta"):
        return Encoder(config)


def _rebuilt(
    model: Encoder,
    config: EncoderConfig,
    masks: Mapping[str, tuple[int, Tensor]] | None = None,
    values: Mapping[str, Tensor] | None = None,
    source: Callable[[str], str] = lambda name: name,
) -> Encoder:
    """An encoder of `config`: each weight is that of `values`, or `model`'s (whose name `source` gives), of which
    `masks` chooses slices (dimension, indices).
    """
    if left := attached(model):
        raise SkylineError(f"'{left[0]}' is still parametrized; bake it before cutting the encoder")
    student, old = Encoder(config, model.tokenizer, model.origin), model.state_dict()
    state: dict[str, Tensor] = {}
    # Shared weights come once, under their first name: the others' old values would overwrite them.
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
