"""Quantization noise (Fan et al. 2021) and trainable product-quantization tables, for quant-noise.

The noise is functional: it never writes to the optimizer's weights, and each forward pass draws anew. Evaluation is
deterministic: block noise does nothing, scalar noise rounds every weight.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.codecs import Int8, Product, Stage
from harness.models.parametrization import straight_through


class Draws:
    """Random masks, drawn on the device that asks, from one seed."""

    def __init__(self, generator: torch.Generator) -> None:
        self._seed = generator.initial_seed()
        self._generators: dict[torch.device, torch.Generator] = {}

    def hit(self, shape: torch.Size, share: float, device: torch.device) -> Tensor:
        """Return a mask of `shape` whose entries are true with probability `share`, independently."""
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        mask = torch.empty(shape, dtype=torch.bool, device=device)
        return mask.bernoulli_(share, generator=self._generators[device])


class BlockNoise(nn.Module):
    """Noise that stands for product quantization (section 4.2): in training, blocks of `block` neighbouring weights of
    a row become 0 with probability `share`, the others are multiplied by 1 / (1 − share). Gradients pass straight
    through.
    """

    def __init__(self, block: int, share: float, draws: Draws) -> None:
        super().__init__()
        self.block, self.share, self.draws = block, share, draws

    def forward(self, weight: Tensor) -> Tensor:
        """Return the noised weight (out, in). `block` must divide `in`."""
        if not self.training or not self.share:
            return weight
        blocks = weight.detach().reshape(*weight.shape[:-1], -1, self.block)  # (out, in / block, block)
        dropped = self.draws.hit(blocks.shape[:-1], self.share, weight.device)  # (out, in / block)
        noised = (blocks / (1 - self.share)).masked_fill(dropped[..., None], 0)
        return straight_through(weight, noised.flatten(-2))


class RoundingNoise(nn.Module):
    """Scalar quantization of a random `share` of the weights in training, and of all weights in evaluation. Gradients
    pass straight through. `stage` defines the rounding.
    """

    def __init__(self, stage: Stage, share: float, draws: Draws) -> None:
        super().__init__()
        self.stage, self.share, self.draws = stage, share, draws

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight, partly or wholly rounded, in the same shape."""
        if self.training and not self.share:
            return weight
        plain = weight.detach().float()
        rounded = self.stage.decode(*self.stage.encode(plain), weight.shape)
        if self.training and self.share < 1:
            hit = self.draws.hit(weight.shape, self.share, weight.device)
            rounded = torch.where(hit, rounded, plain)
        return straight_through(weight, rounded.to(weight.dtype))


class InputNoise(RoundingNoise):
    """Rounding noise on a linear map's inputs, as a forward pre-hook: int8 with one scale a token, as
    `harness.models.int8_linear` quantizes them.
    """

    def __init__(self, share: float, draws: Draws) -> None:
        super().__init__(Int8("channel"), share, draws)

    def hook(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Round the first input (…, in), in part in training, as a whole in evaluation."""
        self.train(module.training)
        x = inputs[0]
        return (self(x.reshape(-1, x.shape[-1])).view(x.shape), *inputs[1:])


class TrainedTable(nn.Module):
    """A product-quantized weight with fixed codes and a trained table. The gradient of an entry is the mean over the
    blocks that use it (Stock et al. 2020, section 3.3). Forward rounds the table to its stored type.

    `relative_error` is Σ (w − ŵ)² / Σ w² before training.
    """

    codes: Tensor
    counts: Tensor

    def __init__(self, stage: Product, weight: Tensor) -> None:
        """Fit the table to `weight` (out, in), which must be on the CPU."""
        super().__init__()
        weight = weight.detach().float()
        codes, beside = stage.encode(weight)
        decoded = stage.decode(codes, beside, weight.shape)
        squares = (weight - decoded).double().square().sum(), weight.double().square().sum()
        self.relative_error = float(squares[0] / squares[1].clamp_min(torch.finfo(torch.float64).tiny))
        self.dtype = beside["table"].dtype
        self.table = nn.Parameter(beside["table"].float())
        self.register_buffer("codes", codes.flatten().int())
        counts = torch.bincount(self.codes, minlength=len(self.table)).clamp_min(1)
        self.register_buffer("counts", counts[:, None].float())

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight that codes and table make, in the shape of `weight`, whose values are not used."""
        plain = self.table.detach()
        stored = plain.to(self.dtype).float()
        table = stored + (self.table - plain) / self.counts
        return F.embedding(self.codes, table).view(weight.shape)  # (blocks, block) -> (out, in)
