"""Gates: a factor of one on each head, feed-forward column or hidden unit, through which importance and
penalties are taken. They are hooks, so the encoder itself does not know of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.encoder import Encoder, FeedForward, Layer


def head_gates(model: Encoder) -> list[Tensor]:
    """A tensor of ones (heads,) for each layer, on the model's device, that records gradients."""
    device = next(model.parameters()).device
    return [torch.ones(layer.heads, device=device, requires_grad=True) for layer in model.config.layers]


def column_gates(model: Encoder) -> list[Tensor]:
    """A tensor of ones (FFN columns,) for each layer, on the model's device, that records gradients."""
    device = next(model.parameters()).device
    return [torch.ones(layer.ffn_size, device=device, requires_grad=True) for layer in model.config.layers]


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
            if heads is not None and len(heads[index]):
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
        context = context.view(*shape[:-1], len(gate), -1) * gate[:, None].to(context.dtype)
        return context.view(shape), attention

    return hook


def _gate_columns(gate: Tensor) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0] * gate.to(inputs[0].dtype),)

    return hook
