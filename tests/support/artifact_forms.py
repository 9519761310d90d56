"""Small encoders in every shape and every form of storage that an artifact can have."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from harness.compression.pruning.masks import Masks, keep_largest, prunable
from harness.models.codecs import Codec, Int8
from harness.models.config import LayerConfig
from harness.models.encoder.encoder import Encoder
from tests.support.encoder_models import TINY, random_batch

BATCH = random_batch([9, 4, 17], TINY.vocab_size, pairs=True)
SHARED = TINY.with_layers((TINY.layers[0], TINY.layers[0].model_copy(update={"shares_with": 0})))
UNEVEN = TINY.with_layers(
    (
        LayerConfig(heads=1, head_size=7, ffn_size=5, ranks={"query": 1, "ffn_out": 3}),
        LayerConfig(heads=3, head_size=8, ffn_size=33),
    )
).model_copy(update={"embedding_rank": 5})
SPAN = TINY.with_head("span", 2)
BARE = TINY.with_head("none", 1)


def dense(model: Encoder) -> Encoder:
    """Leave the model as it is."""
    return model


def sparse(model: Encoder, share: float = 0.6) -> Encoder:
    """Set a share of each matrix and of the word embeddings to zero."""
    masks = Masks(model, prunable(model, embeddings=True))
    masks.replace(keep_largest(masks.magnitudes(), share, "matrix"))
    masks.store(model)
    return model


def int8(model: Encoder, per: str = "channel") -> Encoder:
    """Store and execute every linear layer but the classifier in int8, as `dynamic-int8` does."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and not path.startswith("head.classifier"):
            codecs, name = model.storage.codecs, f"{path}.weight"
            codecs[name] = codecs.get(name, Codec()).with_stage(Int8(per))
            model.storage.kernels[path] = "int8"
    return model


def per_tensor(model: Encoder) -> Encoder:
    """Use int8 with one scale for each matrix."""
    return int8(model, "tensor")


def both(model: Encoder) -> Encoder:
    """Set weights to zero, then use int8."""
    return int8(sparse(model))


def half(model: Encoder) -> Encoder:
    """Store every matrix in float16."""
    model.storage.codecs = {
        n: Codec.parse("cast(float16)") for n, p in model.named_parameters() if p.dim() > 1
    }
    return model


FORMS: dict[str, Callable[[Encoder], Encoder]] = {
    "dense": dense,
    "sparse": sparse,
    "int8": int8,
    "int8-tensor": per_tensor,
    "sparse-int8": both,
    "half": half,
}
SHAPES = {"plain": TINY, "shared": SHARED, "uneven": UNEVEN, "span": SPAN, "bare": BARE}
