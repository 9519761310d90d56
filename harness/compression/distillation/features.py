"""The outputs of the linear maps in an encoder's layers, before the next non-linearity, and losses between them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.batch import AttentionMap
from harness.models.config import MATRICES, Matrix
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.layers import Layer


class Features:
    """Record the outputs of each layer's matrices in the last forward pass: queries, keys, values, the attention's
    output and both feed-forward maps, each (b, n, out). `layers` (indices) and `matrices` restrict which.

    It registers hooks on the model until `close`.
    """

    def __init__(
        self,
        model: Encoder,
        layers: Collection[int] | None = None,
        matrices: Collection[Matrix] = MATRICES,
    ) -> None:
        self._last: dict[tuple[int, Matrix], Tensor] = {}
        self._hooks: list[Any] = []
        for index, layer in enumerate(model.layers):
            if layers is not None and index not in layers:
                continue
            assert isinstance(layer, Layer)
            for matrix, module in layer.matrices().items():
                if matrix not in matrices:
                    continue
                self._hooks.append(module.register_forward_hook(self._keep(index, matrix)))

    def _keep(self, index: int, matrix: Matrix) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._last[index, matrix] = output

        return hook

    def take(self) -> dict[tuple[int, Matrix], Tensor]:
        """Return the features by (layer, matrix), and forget them: the next call returns the next pass's features."""
        last, self._last = self._last, {}
        return last

    def close(self) -> None:
        """Remove the hooks and forget the features."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._last.clear()


def feature_losses(
    student: dict[tuple[int, Matrix], Tensor], teacher: dict[tuple[int, Matrix], Tensor], mask: Tensor
) -> dict[Matrix, Tensor]:
    """Return, for each kind of matrix, the mean squared error between student's and teacher's features over the tokens
    in `mask` (b, n), as the mean over layers: scalars.
    """
    chosen = mask.bool()
    found: dict[Matrix, list[Tensor]] = {}
    for (index, matrix), ours in student.items():
        loss = F.mse_loss(ours[chosen].float(), teacher[index, matrix][chosen].float())  # of (tokens, out)
        found.setdefault(matrix, []).append(loss)
    return {matrix: torch.stack(found[matrix]).mean() for matrix in MATRICES if matrix in found}


def relation_scores(one: Tensor, other: Tensor, heads: int) -> Tensor:
    """Return the dot products of two features (b, n, h · d), head by head and divided by √d: (b, h, n, n). For queries
    and keys these are the attention scores; for values and values, the value relation (Wang et al. 2020, equation 4).
    """
    first, second = (
        x.float().view(*x.shape[:-1], heads, -1).transpose(1, 2) for x in (one, other)
    )  # (b, h, n, d)
    scores: Tensor = first @ second.transpose(-1, -2) * first.shape[-1] ** -0.5  # (b, h, n, n)
    return scores


def relation(one: Tensor, other: Tensor, heads: int, mask: Tensor) -> AttentionMap:
    """Return `relation_scores` and their softmax over the tokens in `mask` (b, n)."""
    scores = relation_scores(one, other, heads)  # (b, h, n, n)
    hidden = mask[:, None, None, :] == 0  # (b, 1, 1, n)
    return AttentionMap(scores, torch.softmax(scores.masked_fill(hidden, float("-inf")), dim=-1))
