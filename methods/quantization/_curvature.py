"""Top eigenvalues of blocks of a loss's Hessian, for q-bert.

Power iteration uses Hessian-vector products and never forms the matrix (Pearlmutter 1994; Shen et al. 2020, section
3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from harness.compression.task_loss import task_loss
from harness.models.model import evaluating

if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.encoder.encoder import Encoder

Vector = list[Tensor]
"""One tensor for each parameter of a block."""


def power_iteration(
    product: Callable[[Vector], Vector], start: Vector, iterations: int, tolerance: float
) -> float:
    """Return the eigenvalue of largest magnitude, with its sign, of a symmetric matrix A; `product` computes Av.

    Iterates v ← Av / ‖Av‖ from `start`, until vᵀAv changes by less than `tolerance` (relative).
    """
    vector, value = _unit(start), 0.0
    for _ in range(iterations):
        image = product(vector)
        before, value = value, float(_dot(vector, image))
        if abs(value - before) <= tolerance * abs(value):
            break
        vector = _unit(image)
    return value


def top_eigenvalues(
    loss: Tensor,
    blocks: Sequence[Sequence[Tensor]],
    generator: torch.Generator,
    iterations: int,
    tolerance: float,
) -> list[float]:
    """Return the top eigenvalue of ∂²loss / ∂block² for each block of parameters.

    `loss` is a scalar that must be differentiable twice.
    """
    parameters = [parameter for block in blocks for parameter in block]
    gradients = iter(torch.autograd.grad(loss, parameters, create_graph=True))
    values = []
    for block in blocks:
        own = [next(gradients) for _ in block]
        start = [torch.randn(p.shape, generator=generator).to(p.device) for p in block]
        values.append(power_iteration(_hessian_product(own, block), start, iterations, tolerance))
    return values


def shard_eigenvalues(
    model: Encoder,
    context: Context,
    blocks: Sequence[Sequence[Tensor]],
    shards: int,
    examples: int,
    iterations: int,
    tolerance: float,
) -> Tensor:
    """Return `top_eigenvalues` of the task loss on `shards` batches of the training data, as (shards, blocks).

    Each shard has `examples` random rows. Dropout is off.
    """
    generator, found = context.generator("curvature"), []
    model.to(context.device)
    # The fused attention kernels have no second derivative.
    with torch.enable_grad(), evaluating(model), sdpa_kernel(SDPBackend.MATH):
        for batch, targets in context.batches(model, examples, shards, "curvature"):
            loss = task_loss(context.task.kind, model(batch).logits, targets)
            found.append(top_eigenvalues(loss, blocks, generator, iterations, tolerance))
    return torch.tensor(found)


def sensitivity(eigenvalues: Tensor) -> Tensor:
    """Return Ω = |mean| + standard deviation over shards (Shen et al. 2020, section 3.1, eq. 2).

    `eigenvalues` is (shards, blocks), the result (blocks,).
    """
    return eigenvalues.mean(0).abs() + eigenvalues.std(0, correction=0)


def _hessian_product(gradients: Vector, block: Sequence[Tensor]) -> Callable[[Vector], Vector]:
    curved = [index for index, gradient in enumerate(gradients) if gradient.requires_grad]

    def product(vector: Vector) -> Vector:
        if not curved:  # the loss is linear in this block
            return [torch.zeros_like(part) for part in vector]
        return list(
            torch.autograd.grad(
                [gradients[index] for index in curved],
                list(block),
                [vector[index] for index in curved],
                retain_graph=True,
                materialize_grads=True,
            )
        )

    return product


def _dot(one: Vector, other: Vector) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()


def _unit(vector: Vector) -> Vector:
    length = _dot(vector, vector).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
    return [part / length for part in vector]
