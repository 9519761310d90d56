"""Modules that replace others for the export, because the exporter has no translation for them or a slow one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.embeddings import CodedEmbedding, HashedEmbedding
from harness.models.encoder.attention import Attention
from harness.models.int8_linear import Int8Linear, replace_module
from harness.models.model import Model

OPSET = 23
"""ONNX's first operator set with attention, which the runtimes execute in one kernel."""
GATES = {"LSTM": (0, 3, 1, 2), "RNN": (0,)}
"""Indices of torch's gates (input, forget, cell, output) in ONNX's order (input, output, forget, cell)."""


def rewrite(model: Model, int8_map: Callable[[Int8Linear], nn.Module]) -> None:
    """Replace modules of a model, in place, by others that export well and compute the same."""
    for path, module in list(model.named_modules()):
        if isinstance(module, Int8Linear):
            replace_module(model, path, int8_map(module))
        elif isinstance(module, CodedEmbedding | HashedEmbedding):
            replace_module(model, path, SummedWords(module, model.config.vocab_size))
        elif isinstance(module, nn.LSTM | nn.RNN):
            replace_module(model, path, Recurrence(module))
        elif isinstance(module, Attention):
            setattr(module, "fused", partial(_fused, module))  # noqa: B010 - mypy wants no assigned method


def _fused(_: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Compute `Attention.fused`, (b, h, n, d), with a mask for each query, as ONNX Runtime's kernel needs it."""
    context: Tensor = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask.expand(-1, -1, query.shape[2], -1),  # (b, 1, n, keys)
    )
    return context


class SummedWords(nn.Module):
    """Word embeddings that are sums of rows, without `embedding_bag`, for which ONNX needs a loop.

    A table holds the rows of each token's summands. Hashing at run time would need products of 62 bits, and OpenVINO
    computes in 32.
    """

    rows: Tensor  # (V, k): the rows that are summed for each token
    weight: Tensor  # (rows, H)
    importance: Tensor | None  # (V, k): the factor of each summand

    def __init__(self, words: CodedEmbedding | HashedEmbedding, vocab_size: int) -> None:
        super().__init__()
        ids = torch.arange(vocab_size)
        importance = None
        if isinstance(words, HashedEmbedding):
            rows, importance = words.places(ids), words.weights_of(ids).detach()
        else:
            rows = words.codes.long() + torch.arange(words.books) * words.entries
        self.register_buffer("rows", rows.to(torch.int32))
        self.register_buffer("weight", words.weight.detach())
        self.register_buffer("importance", importance)

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids (b, n) to embeddings (b, n, H)."""
        summands = F.embedding(self.rows[ids], self.weight)  # (b, n, k, H)
        if self.importance is not None:
            summands = summands * F.embedding(ids, self.importance)[..., None]  # (b, n, k, 1)
        return summands.sum(-2)


class Recurrence(nn.Module):
    """A recurrent layer in one direction as ONNX's operator. torch would export its single steps, for one length."""

    weights: Tensor  # (1, gates S, E)
    states: Tensor  # (1, gates S, S)
    biases: Tensor  # (1, 2 gates S)

    def __init__(self, cells: nn.RNNBase) -> None:
        super().__init__()
        self.kind, self.hidden = type(cells).__name__, cells.hidden_size
        named: dict[str, Tensor] = {name: p.detach() for name, p in cells.named_parameters()}
        self.register_buffer("weights", self._ordered(named["weight_ih_l0"])[None])
        self.register_buffer("states", self._ordered(named["weight_hh_l0"])[None])
        biases = [self._ordered(named[name]) for name in ("bias_ih_l0", "bias_hh_l0")]
        self.register_buffer("biases", torch.cat(biases)[None])

    def _ordered(self, weight: Tensor) -> Tensor:
        order = torch.tensor(GATES[self.kind])[:, None] * self.hidden + torch.arange(self.hidden)
        return weight[order.flatten()]

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Map inputs (b, n, E) to states (b, n, S)."""
        steps = x.transpose(0, 1)  # (n, b, E)
        states = torch.onnx.ops.symbolic(
            self.kind,
            (steps, self.weights, self.states, self.biases),
            {"hidden_size": self.hidden},
            dtype=x.dtype,
            shape=(steps.shape[0], 1, steps.shape[1], self.hidden),
            version=OPSET,
        )  # (n, 1, b, S)
        return states[:, 0].transpose(0, 1), None


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return ONNX translations of torch's operators that the exporter lacks: sorting along an axis."""
    from onnxscript import opset23

    onnx: Any = opset23

    def ordered(values: Any, dim: int = -1, descending: bool = False) -> Any:
        count = onnx.Gather(onnx.Shape(values), onnx.Constant(value_ints=[dim]))
        return onnx.TopK(values, count, axis=dim, largest=int(descending), sorted=1)

    def ordered_stably(
        values: Any, stable: bool | None = None, dim: int = -1, descending: bool = False
    ) -> Any:
        return ordered(values, dim, descending)  # TopK takes the first of equal values first

    return {torch.ops.aten.sort.default: ordered, torch.ops.aten.sort.stable: ordered_stably}
