"""What the linear maps of an encoder's layers give: the features before the next non-linearity, read by hooks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.config import MATRICES, Matrix
from harness.encoder import Encoder, Layer


class Features:
    """The outputs of each layer's matrices in the last forward pass, until `close`: queries, keys, values, the
    attention's output and both of the feed-forward maps, each (b, n, out).
    """

    def __init__(self, model: Encoder) -> None:
        self._last: dict[tuple[int, Matrix], Tensor] = {}
        self._hooks: list[Any] = []
        for index, layer in enumerate(model.layers):
            assert isinstance(layer, Layer)
            for matrix, module in layer.matrices().items():
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
