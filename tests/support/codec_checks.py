"""What the tests of all codecs do with them: encode and decode, weigh, and tear what is stored."""

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
"""Those whose stored values stay one for each weight that is kept."""


def there_and_back(text: str, tensor: Tensor) -> Tensor:
    """A tensor, encoded and decoded."""
    codec = Codec.parse(text)
    decoded = codec.decode(codec.encode(tensor), tensor.shape)
    assert decoded.dtype == torch.float32
    assert decoded.shape == tensor.shape
    return decoded


def nbytes(encoded: Encoded) -> int:
    """The bytes of all that is stored."""
    return encoded.values.nbytes + sum(tensor.nbytes for tensor in encoded.beside.values())


def torn(encoded: Encoded, part: str, change: Callable[[Tensor], Tensor] | None) -> Encoded:
    """What is stored, with one part changed, added (from two zeros) or, with None, taken away."""
    parts = {"values": encoded.values, **encoded.beside}
    found = parts.pop(part, torch.zeros(2))
    if change is not None:
        # As a file would give it back.
        parts[part] = change(found).contiguous()
    return Encoded(parts.pop("values"), parts)
