"""Masks on weight matrices, and their choice by scores: shared by all methods of unstructured pruning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from harness.models.codecs import Bitmask, Codec
from harness.models.parametrization import trained_weights

if TYPE_CHECKING:
    from harness.models.model import Model

WORD_EMBEDDING = "embedding.word.weight"


def prunable(model: Model, embeddings: bool) -> list[str]:
    """Return the names of the parameters that sparsity counts: the layers' matrices, with `embeddings` also the word
    embeddings.
    """
    return [*model.matrix_names(), *([WORD_EMBEDDING] if embeddings else [])]


def keep_largest(
    scores: Mapping[str, Tensor], sparsity: float, scope: Literal["matrix", "global"]
) -> dict[str, Tensor]:
    """Return masks (true = kept, of the scores' shapes) that drop the round(sparsity · n) weights with the smallest
    scores, for each matrix of n weights or over all n weights together.

    Ties are broken by position, so the count is exact.
    """
    if scope == "matrix":
        return {name: _keep(score.flatten(), sparsity).view_as(score) for name, score in scores.items()}
    kept = _keep(torch.cat([score.flatten() for score in scores.values()]), sparsity)
    parts = torch.split(kept, [score.numel() for score in scores.values()])
    return {name: part.view_as(score) for (name, score), part in zip(scores.items(), parts, strict=True)}


def _keep(scores: Tensor, sparsity: float) -> Tensor:
    drop = round(sparsity * scores.numel())
    if drop == 0:
        return torch.ones(scores.numel(), dtype=torch.bool, device=scores.device)
    threshold = _smallest(scores, drop)
    dropped = scores < threshold
    ties = (scores == threshold).nonzero().flatten()
    dropped[ties[: drop - int(dropped.count_nonzero())]] = True
    return ~dropped


def _smallest(scores: Tensor, k: int) -> Tensor:
    """Return the k-th smallest score, k from 1."""
    if scores.device.type == "cpu":
        # NumPy's selection takes a tenth of the time of torch's.
        return torch.from_numpy(np.partition(scores.detach().numpy(), k - 1))[k - 1]
    return torch.kthvalue(scores, k).values


def share_changed(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Return the share of weights, over all matrices, that exactly one of the two sets of masks keeps."""
    changed = sum(int((mask != other[name]).count_nonzero()) for name, mask in one.items())
    return changed / sum(mask.numel() for mask in one.values())


class Masks:
    """Masks (true = kept) on a model's parameters, by name. At first they keep all weights."""

    def __init__(self, model: Model, names: Iterable[str]) -> None:
        self.weights = trained_weights(model, names)
        self.kept = {name: torch.ones_like(w, dtype=torch.bool) for name, w in self.weights.items()}

    def replace(self, masks: Mapping[str, Tensor]) -> None:
        """Use these masks from now on; parameters that are not named keep theirs."""
        self.kept.update(masks)

    def magnitudes(self) -> dict[str, Tensor]:
        """Return |w| of each weight, by parameter name."""
        return {name: weight.detach().abs() for name, weight in self.weights.items()}

    def apply(self) -> None:
        """Set the dropped weights to zero in place."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                self.kept[name] = self.kept[name].to(weight.device)
                weight.mul_(self.kept[name])

    def sparsity(self) -> float:
        """Return the share of dropped weights over all masks."""
        total = sum(mask.numel() for mask in self.kept.values())
        return 1 - sum(int(mask.count_nonzero()) for mask in self.kept.values()) / total

    def store(self, model: Model) -> None:
        """Set the dropped weights to zero, and make the artifact store the others behind a bitmask."""
        self.apply()
        codecs = model.storage.codecs
        for name in self.weights:
            codecs[name] = codecs.get(name, Codec()).with_stage(Bitmask())
