"""Helpers of the codec tests: encode and decode, count bytes, damage a stored tensor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.models.codecs import Codec, Encoded

CODECS = (
    "dense",
    "cast(float16)",
    "cast(bfloat16)",
    "cast(float32)",
    "int8(channel)",
    "int8(tensor)",
    "bitmask",
    "cast(float16)+bitmask",
    "cast(bfloat16)+bitmask",
    "int8(channel)+bitmask",
    "int8(tensor)+bitmask",
)
"""Codecs that store one value for each kept weight."""


def there_and_back(text: str, tensor: Tensor) -> Tensor:
    """Encode and decode a tensor."""
    codec = Codec.parse(text)
    decoded = codec.decode(codec.encode(tensor), tensor.shape)
    assert decoded.dtype == torch.float32
    assert decoded.shape == tensor.shape
    return decoded


def nbytes(encoded: Encoded) -> int:
    """Count the bytes of all stored tensors."""
    return encoded.values.nbytes + sum(tensor.nbytes for tensor in encoded.beside.values())


def torn(encoded: Encoded, part: str, change: Callable[[Tensor], Tensor] | None) -> Encoded:
    """Return `encoded` with one part changed, added (made from two zeros) or, if `change` is None, removed."""
    parts = {"values": encoded.values, **encoded.beside}
    found = parts.pop(part, torch.zeros(2))
    if change is not None:
        # Contiguous, as a file would return it.
        parts[part] = change(found).contiguous()
    return Encoded(parts.pop("values"), parts)
