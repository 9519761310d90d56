"""Norms of an encoder's residual mappings, F in y = norm(x + F(x)), for identity-prior."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harness.models.batch import Batch
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.layers import AttentionOut, FeedForward, Layer
from harness.models.model import evaluating


@dataclass(frozen=True)
class Mapping:
    """One residual mapping: the contribution of a head, of the whole attention block, or of the FFN."""

    layer: int
    kind: Literal["head", "attention", "ffn"]
    head: int = 0


class ResidualMappings:
    """Hooks that read the L1 norms of all residual mappings in each forward pass, until `close`.

    Norms are taken before dropout. The output map's bias counts for its block, but not for a head.
    """

    def __init__(self, model: Encoder) -> None:
        self.mappings: list[Mapping] = []
        self._sizes: dict[tuple[int, str], Tensor] = {}
        self._hooks: list[Any] = []
        for index, layer in enumerate(model.layers):
            assert isinstance(layer, Layer)
            out, ffn = layer.attention_out, layer.ffn
            if isinstance(out, AttentionOut):
                heads = model.config.layers[index].heads
                self.mappings += [Mapping(index, "head", head) for head in range(heads)]
                self.mappings.append(Mapping(index, "attention"))
                self._hooks += [
                    out.register_forward_pre_hook(self._read_input(index, "attention")),
                    out.dense.register_forward_hook(self._read_heads(index, heads)),
                    out.dense.register_forward_hook(self._read_output(index, "attention")),
                ]
            if isinstance(ffn, FeedForward):
                self.mappings.append(Mapping(index, "ffn"))
                self._hooks += [
                    ffn.register_forward_pre_hook(self._read_input(index, "ffn")),
                    ffn.out.register_forward_hook(self._read_output(index, "ffn")),
                ]

    def norms(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return Σ|F(x)| and Σ|x| of each mapping, both (mappings,), over the tokens of `mask` (b, n) in the last pass.

        The first has gradients, the second has none.
        """
        chosen = mask.bool()
        sizes = {key: size[chosen].sum(0) for key, size in self._sizes.items()}
        given, added = [], []
        for mapping in self.mappings:
            block = "ffn" if mapping.kind == "ffn" else "attention"
            size = sizes[mapping.layer, mapping.kind]
            added.append(size[mapping.head] if mapping.kind == "head" else size)
            given.append(sizes[mapping.layer, f"into {block}"])
        return torch.stack(added), torch.stack(given)

    def close(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._sizes.clear()

    def _read_input(self, index: int, block: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._sizes[index, f"into {block}"] = _size(inputs[-1].detach())

        return hook

    def _read_output(self, index: int, block: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._sizes[index, block] = _size(output)

        return hook

    def _read_heads(self, index: int, heads: int) -> Any:
        def hook(module: nn.Linear, inputs: tuple[Tensor], _output: Tensor) -> None:
            context = inputs[0].view(*inputs[0].shape[:-1], heads, -1)  # (b, n, h, d)
            weight = module.weight.view(module.weight.shape[0], heads, -1)  # (H, h, d)
            self._sizes[index, "head"] = _size(torch.einsum("bnhd,ohd->bnho", context, weight))

        return hook


def _size(values: Tensor) -> Tensor:
    """Return the L1 norm over the last dimension, at least in float32."""
    return values.abs().sum(-1, dtype=torch.promote_types(values.dtype, torch.float32))


def function_norms(model: Encoder, batches: Iterable[Batch]) -> dict[Mapping, float]:
    """Return E‖F(x)‖₁ / E‖x‖₁ of each residual mapping over the tokens of `batches`, without dropout."""
    mappings = ResidualMappings(model)
    totals: list[Tensor] = []
    try:
        with torch.no_grad(), evaluating(model):
            for batch in batches:
                model(batch)
                sums = torch.stack(mappings.norms(batch.attention_mask)).double().cpu()
                totals = [totals[0] + sums] if totals else [sums]
    finally:
        mappings.close()
    added, given = totals[0]
    return dict(zip(mappings.mappings, (added / given).tolist(), strict=True))
