"""Choose units from which all others can be reconstructed linearly, and compute these reconstructions by least
squares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.models.encoder.encoder import Encoder
from harness.models.model import evaluating

if TYPE_CHECKING:
    from harness.compression.context import Context


class Moments:
    """Mean and covariance of vectors with `size` units that come batch by batch, in double precision."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.total = torch.zeros(size, dtype=torch.double)
        self.outer = torch.zeros(size, size, dtype=torch.double)

    def add(self, rows: Tensor) -> None:
        """Add vectors (m, size)."""
        rows = rows.detach().double().cpu()
        self.count += len(rows)
        self.total += rows.sum(0)
        self.outer += rows.T @ rows

    @property
    def mean(self) -> Tensor:
        """The mean of each unit, (size,)."""
        return self.total / max(1, self.count)

    @property
    def covariance(self) -> Tensor:
        """The covariance of the units, (size, size)."""
        return self.outer / max(1, self.count) - torch.outer(self.mean, self.mean)


def choose_units(covariance: Tensor, count: int) -> list[int]:
    """Return `count` units, in rising order, from which the others can be reconstructed well (greedy column subset
    selection). Each choice is the unit that leaves the least of the total variance unexplained, given those before it.
    `covariance` is (size, size).
    """
    left = covariance.double().clone()  # the covariance (size, size) that the chosen units do not explain
    floor = 1e-9 * float(left.diagonal().mean().clamp_min(1e-30))
    chosen: list[int] = []
    for _ in range(count):
        variance = left.diagonal().clone()
        gain = left.square().sum(0) / variance.clamp_min(floor)  # (size,)
        gain[variance <= floor] = 0.0
        gain[chosen] = -1.0
        best = int(gain.argmax())
        chosen.append(best)
        if variance[best] > floor:
            left -= torch.outer(left[:, best], left[best]) / variance[best]
    return sorted(chosen)


def reconstruction(moments: Moments, kept: list[int], ridge: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Return M (size, k) and c (size,) of the affine map x ≈ M x[kept] + c from the k units `kept` to all units.

    It is the ridge regression whose penalty is `ridge` times the mean variance of the kept units. Kept units are
    mapped to themselves.
    """
    covariance, mean = moments.covariance, moments.mean
    inner = covariance[kept][:, kept]  # (k, k)
    damping = ridge * inner.diagonal().mean().clamp_min(1e-12)
    inner = inner + damping * torch.eye(len(kept), dtype=inner.dtype)
    found = torch.linalg.solve(inner, covariance[kept]).T  # (size, k)
    found[kept] = torch.eye(len(kept), dtype=inner.dtype)
    return found, mean - found @ mean[kept]


def group_energy(covariance: Tensor, weight: Tensor, size: int = 1) -> Tensor:
    """Return the variance that each group g of `size` neighbouring inputs adds to the output of the linear map
    `weight` (out, in): trace(W_g C_g W_gᵀ), shape (in / size,). `covariance` (in, in) is that of the inputs.
    """
    groups = weight.shape[1] // size
    weight = weight.detach().double().cpu().view(-1, groups, size)
    blocks = covariance.double().view(groups, size, groups, size)
    return torch.einsum("ogi,ijg,ogj->g", weight, blocks.diagonal(dim1=0, dim2=2), weight)


def hidden_units(moments: Mapping[str, Moments], count: int) -> list[int]:
    """Return `count` hidden units from which the inputs of all linear maps that read hidden states can be
    reconstructed well. Every map has the same weight. `moments` come from `observe_inputs`.
    """
    readers = [m.covariance for path, m in moments.items() if path.endswith((".query", ".into", ".pooler"))]
    shares = [covariance / covariance.trace().clamp_min(1e-12) for covariance in readers]
    return choose_units(torch.stack(shares).sum(0), count)


def strongest_groups(covariance: Tensor, weight: Tensor, count: int, size: int = 1) -> list[int]:
    """Return the `count` groups of `size` neighbouring inputs, in rising order, that add the most variance to the
    output of the map `weight` (out, in); see `group_energy`.
    """
    energy = group_energy(covariance, weight, size)
    chosen: list[int] = energy.argsort(descending=True, stable=True)[:count].sort().values.tolist()
    return chosen


def read_from(module: nn.Linear, moments: Moments, kept: list[int]) -> None:
    """Change a linear map in place so that its inputs `kept` suffice: W[:, kept] ← W M and b ← b + W c, with M and c of
    `reconstruction`. The caller must cut the other columns.
    """
    with torch.no_grad():
        weight = module.weight  # (out, in)
        found, offset = (each.to(weight) for each in reconstruction(moments, kept))
        if module.bias is not None:
            module.bias.add_(weight @ offset)
        weight[:, kept] = weight @ found


def observe_inputs(model: Encoder, context: Context, batches: int, size: int = 32) -> dict[str, Moments]:
    """Return the moments of the inputs of each linear map of `model`, by the module's path, over the tokens (without
    padding) of `batches` batches of `size` training examples.

    Queries, keys and values have the same inputs, so only the query's path is there.
    """
    found: dict[str, Moments] = {}
    mask = torch.ones(0)

    def watch(path: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
            rows = (
                inputs[0] if inputs[0].dim() == 2 else inputs[0][mask]
            )  # (m, in), from (b, n, in) by mask (b, n)
            found.setdefault(path, Moments(rows.shape[-1])).add(rows)

        return hook

    hooks = [
        module.register_forward_pre_hook(watch(path))
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and not path.startswith("exits.")
        and not path.endswith((".project", ".key", ".value"))
    ]
    try:
        with torch.no_grad(), evaluating(model):
            for batch, _ in context.batches(model, size, batches, "inputs"):
                mask = batch.attention_mask.bool()
                model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def observe_states(model: Encoder, context: Context, batches: int, size: int = 32) -> Moments:
    """Return the moments of the hidden states of `model`, after the embedding and after every layer together, over the
    tokens (without padding) of `batches` batches of `size` training examples.
    """
    found = Moments(model.config.hidden_size)
    with torch.no_grad(), evaluating(model):
        for batch, _ in context.batches(model, size, batches, "states"):
            for states in model(batch, hidden_states=True).hidden_states or ():
                found.add(states[batch.attention_mask.bool()])  # (m, H) of (b, n, H)
    return found
