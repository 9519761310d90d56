"""Encoders cut from encoders: a new configuration with the weights that it keeps."""

from __future__ import annotations

from collections.abc import Sequence

from harness.encoder import Encoder
from harness.errors import SkylineError


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
    student = Encoder(
        model.config.with_layers(tuple(configs[i] for i in kept)), model.tokenizer, model.origin
    )
    student.embedding.load_state_dict(model.embedding.state_dict())
    student.head.load_state_dict(model.head.state_dict())
    for layer, source in zip(student.layers, kept, strict=True):
        layer.load_state_dict(model.layers[source].state_dict())
    return student
