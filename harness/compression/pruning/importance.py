"""Gates: a factor of one on each head, feed-forward column or hidden unit, through which importance and
penalties are taken. They are hooks, so the encoder itself does not know of them.
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
    """Ones (heads,) for each layer, or (rows, heads) for a gate of its own in each sequence of a batch, on the
    model's device, that record gradients.
    """
    return [_ones(model, layer.heads, rows) for layer in model.config.layers]


def column_gates(model: Encoder, rows: int | None = None) -> list[Tensor]:
    """Ones (FFN columns,) for each layer, or (rows, FFN columns), on the model's device, that record gradients."""
    return [_ones(model, layer.ffn_size, rows) for layer in model.config.layers]


def _ones(model: Encoder, size: int, rows: int | None) -> Tensor:
    shape = (size,) if rows is None else (rows, size)
    return torch.ones(shape, device=next(model.parameters()).device, requires_grad=True)


@contextmanager
def gated(
    model: Encoder, heads: list[Tensor] | None = None, columns: list[Tensor] | None = None
) -> Iterator[None]:
    """Multiply each head's context by its gate, and each column's activation by its, within the block.

    Layers that share weights share modules, so they cannot be gated apart: their gates multiply.
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
        context, attention = output
        shape = context.shape
        factor = gate.reshape(-1, 1, gate.shape[-1], 1).to(context.dtype)
        context = context.view(*shape[:-1], gate.shape[-1], -1) * factor
        return context.view(shape), attention

    return hook


def _gate_columns(gate: Tensor) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0] * gate.reshape(-1, 1, gate.shape[-1]).to(inputs[0].dtype),)

    return hook
