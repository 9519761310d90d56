"""What the linear maps of an encoder's layers give: the features before the next non-linearity, read by hooks."""

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
    """The outputs of each layer's matrices in the last forward pass, until `close`: queries, keys, values, the
    attention's output and both of the feed-forward maps, each (b, n, out). Of some layers and matrices only, where
    these are named.
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
        """The features by layer and matrix; the next call gives those of the next pass."""
        last, self._last = self._last, {}
        return last

    def close(self) -> None:
        """Stop reading."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._last.clear()


def feature_losses(
    student: dict[tuple[int, Matrix], Tensor], teacher: dict[tuple[int, Matrix], Tensor], mask: Tensor
) -> dict[Matrix, Tensor]:
    """The mean squared error of the features of both over the tokens of `mask` (b, n), for each kind of matrix the
    mean over layers.
    """
    chosen = mask.bool()
    found: dict[Matrix, list[Tensor]] = {}
    for (index, matrix), ours in student.items():
        loss = F.mse_loss(ours[chosen].float(), teacher[index, matrix][chosen].float())
        found.setdefault(matrix, []).append(loss)
    return {matrix: torch.stack(found[matrix]).mean() for matrix in MATRICES if matrix in found}


def relation_scores(one: Tensor, other: Tensor, heads: int) -> Tensor:
    """The scaled products of features (b, n, h · d) with each other, head by head: (b, h, n, n). Of queries and keys
    these are the attention's scores, of values with themselves the value relation (Wang et al. 2020, equation 4).
    """
    first, second = (x.float().view(*x.shape[:-1], heads, -1).transpose(1, 2) for x in (one, other))
    scores: Tensor = first @ second.transpose(-1, -2) * first.shape[-1] ** -0.5
    return scores


def relation(one: Tensor, other: Tensor, heads: int, mask: Tensor) -> AttentionMap:
    """`relation_scores`, and their softmax over the tokens of `mask` (b, n)."""
    scores = relation_scores(one, other, heads)
    hidden = mask[:, None, None, :] == 0
    return AttentionMap(scores, torch.softmax(scores.masked_fill(hidden, float("-inf")), dim=-1))
