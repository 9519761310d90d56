"""Spectral normalisation with a learned scale for each matrix (Miyato et al. 2018), for identity-prior."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.encoder.encoder import Encoder
from harness.models.parametrization import attach, bake, trained_weights

FIRST_ITERATIONS = 30
"""Power iterations before training, for a good first estimate. During training one iteration a step is enough."""


class SpectralScale(nn.Module):
    """W → s · σ₀ · W / σ(W). σ(W) = uᵀWv is the largest singular value by power iteration, σ₀ its value before
    training. The trained `scale` s begins at 1, so nothing changes at first.
    """

    u: Tensor
    v: Tensor
    first: Tensor

    def __init__(self, weight: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        start = torch.randn(weight.shape[0], generator=generator, dtype=torch.float32)
        self.register_buffer("u", F.normalize(start.to(weight), dim=0))
        self.register_buffer("v", torch.zeros_like(weight[0]))
        self.iterate(weight, FIRST_ITERATIONS)
        self.register_buffer("first", self.sigma(weight).detach())
        self.scale = nn.Parameter(torch.ones_like(self.first))

    @torch.no_grad()
    def iterate(self, weight: Tensor, times: int = 1) -> None:
        """Update u (out,) and v (in,), the estimates of the first singular vectors of `weight` (out, in)."""
        for _ in range(times):
            # New tensors: a backward pass may still need the old ones.
            self.v = F.normalize(weight.T @ self.u, dim=0)
            self.u = F.normalize(weight @ self.v, dim=0)

    def sigma(self, weight: Tensor) -> Tensor:
        """Return the estimate uᵀWv (a scalar). Its gradient takes u and v as constants."""
        # Two matrix products instead would be rounded to bfloat16 in training.
        return (weight * torch.outer(self.u, self.v)).sum()

    def forward(self, weight: Tensor) -> Tensor:
        """Return the normalised weight (out, in)."""
        # The clamp keeps a matrix of zeros at zero.
        return weight * (self.scale * self.first / self.sigma(weight).clamp_min(1e-12))


class SpectralNormalisation:
    """Spectral normalisation of the named weights of an encoder."""

    def __init__(self, student: Encoder, names: Iterable[str], generator: torch.Generator) -> None:
        self.weights = trained_weights(student, names)
        self.functions = {
            name: SpectralScale(weight.detach(), generator) for name, weight in self.weights.items()
        }
        for name, function in self.functions.items():
            attach(student, name, function)

    def iterate(self) -> None:
        """Do one power iteration for each weight. Call it after an optimizer step."""
        for name, function in self.functions.items():
            function.iterate(self.weights[name])

    def bake(self, student: Encoder) -> None:
        """Replace each weight by its normalised value, and remove the normalisation."""
        for name in self.functions:
            bake(student, name)


def is_scale(name: str) -> bool:
    """Return whether the parameter of this name is a learned scale."""
    return ".parametrizations." in name and name.endswith(".scale")
