"""Gates: factors of one on heads and feed-forward columns. The loss's gradient with respect to a gate measures the
importance of its unit (Michel et al. 2019). Gates are hooks, so the encoder's code does not contain them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.encoder.encoder import Encoder
from harness.models.encoder.layers import FeedForward, Layer


def head_gates(model: Encoder, rows: int | None = None) -> list[Tensor]:
    """Return gates of value 1 for each layer, on the model's device, with gradients: (heads,), or (rows, heads) if
    each of `rows` sequences of a batch gets its own gates.
    """
    return [_ones(model, layer.heads, rows) for layer in model.config.layers]


def column_gates(model: Encoder, rows: int | None = None) -> list[Tensor]:
    """Return gates as `head_gates` does: (FFN columns,) for each layer, or (rows, FFN columns)."""
    return [_ones(model, layer.ffn_size, rows) for layer in model.config.layers]


def _ones(model: Encoder, size: int, rows: int | None) -> Tensor:
    shape = (size,) if rows is None else (rows, size)
    return torch.ones(shape, device=next(model.parameters()).device, requires_grad=True)


@contextmanager
def gated(
    model: Encoder, heads: list[Tensor] | None = None, columns: list[Tensor] | None = None
) -> Iterator[None]:
    """Multiply, within the block, each head's context and each FFN column's activation by its gate.

    `heads` and `columns` hold one tensor per layer (see `head_gates`). Layers that share weights share modules, so the
    hooks of all of them act on each: their gates multiply.
    """
    hooks = []
    try:
        for index, layer in enumerate(model.layers):
            assert isinstance(layer, Layer)
            if heads is not None and heads[index].shape[-1]:
                hooks.append(layer.attention.register_forward_hook(_gate_heads(heads[index])))
            if columns is not None and isinstance(layer.ffn, FeedForward):
                hooks.append(layer.ffn.out.register_forward_pre_hook(_gate_columns(columns[index])))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _gate_heads(gate: Tensor) -> Any:
    def hook(module: nn.Module, inputs: Any, output: tuple[Tensor, Tensor | None]) -> Any:
        context, attention = output  # (b, n, h · d)
        shape = context.shape
        factor = gate.reshape(-1, 1, gate.shape[-1], 1).to(context.dtype)  # (1 or b, 1, h, 1)
        context = context.view(*shape[:-1], gate.shape[-1], -1) * factor  # (b, n, h, d)
        return context.view(shape), attention  # (b, n, h · d)

    return hook


def _gate_columns(gate: Tensor) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0] * gate.reshape(-1, 1, gate.shape[-1]).to(inputs[0].dtype),)  # (b, n, FFN columns)

    return hook
