"""Linear maps that execute on compressed weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.common.errors import SkylineError
from harness.common.hardware import multiplies_signed
from harness.models.codecs import INT8_MAX

EXACT_WIDTH = 1024
"""So many products of two int8 numbers add up to 2²⁴ at most, as far as float32 counts without a gap."""


class Int8Linear(nn.Module):
    """y = x Wᵀ + b with int8 weights and activations, int32 sums and float32 in and out.

    Activations are quantized as they come, symmetrically and with one scale for each token, so that a row's
    result does not depend on padding or on the other rows of its batch (a scale for the whole tensor would).
    Weights carry one scale, or one a row.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """`weight` int8 (out, in), `scale` float32 () or (out), `bias` float32 (out)."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.in_floats = not multiplies_signed()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.to(torch.float32))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out)."""
        tokens = x.reshape(-1, self.in_features)
        # Clamped after the division: a subnormal scale may be flushed to zero, and 0 / 0 is no number.
        scale = tokens.abs().amax(dim=1, keepdim=True) / INT8_MAX
        scale = scale.clamp_min(torch.finfo(torch.float32).tiny)
        quantized = torch.round(tokens / scale).to(torch.int8)
        sums = self._sums(quantized).to(torch.float32)
        scales = scale * self.scale
        result = sums * scales if self.bias is None else torch.addcmul(self.bias, sums, scales)
        return result.view(*x.shape[:-1], self.out_features)

    def _sums(self, quantized: Tensor) -> Tensor:
        # torch 2.13's _int_mm returns garbage on CPU where there is only one column to sum over.
        if self.in_features == 1:
            return quantized.to(torch.int32) * self.weight.t()
        if quantized.is_cuda:
            return padded_int_mm(quantized, self.weight)
        # A trace, in which work is counted, holds one product on any processor.
        if self.in_floats and not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return float_int_mm(quantized, self.weight)
        return torch._int_mm(quantized, self.weight.t())


def float_int_mm(x: Tensor, weight: Tensor) -> Tensor:
    """x Wᵀ in int32, exactly, by float32 products, of int8 `x` (rows, in) and `weight` (out, in).

    For processors that have no product of bytes: torch's takes 20 to 30 times as long as float32's there.
    """
    sums = [
        F.linear(part.float(), columns.float()).to(torch.int32)
        for part, columns in zip(
            torch.split(x, EXACT_WIDTH, 1), torch.split(weight, EXACT_WIDTH, 1), strict=True
        )
    ]
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum(0, dtype=torch.int32)


def padded_int_mm(x: Tensor, weight: Tensor) -> Tensor:
    """x Wᵀ in int32 of int8 `x` (rows, in) and `weight` (out, in), zeros added where cuBLASLt wants more than 16
    rows and widths that are multiples of 8. BERT's own sizes need rows only, and those only for short inputs.
    """
    rows, width = x.shape
    more_rows, more_width, more_out = max(0, 17 - rows), -width % 8, -weight.shape[0] % 8
    if more_rows or more_width:
        x = F.pad(x, (0, more_width, 0, more_rows))
    if more_width or more_out:
        weight = F.pad(weight, (0, more_width, 0, more_out))
    return torch._int_mm(x, weight.t())[:rows, : weight.shape[0] - more_out]


KERNELS = {"int8": Int8Linear}


def require_dense(model: nn.Module) -> None:
    """Raise a SkylineError where `model` executes on compressed weights, which no float32 file can hold."""
    for path, module in model.named_modules():
        if isinstance(module, Int8Linear):
            raise SkylineError(
                f"module '{path}' executes in int8 and cannot be saved as it is; copy the artifact's folder, or "
                "make the model dense first (harness.models.artifacts.to_dense)"
            )


def replace_linear(model: nn.Module, path: str, kernel: nn.Module) -> None:
    """Put `kernel` in the place of the linear module at `path`. Raises SkylineError where there is none."""
    try:
        current = model.get_submodule(path)
    except AttributeError:
        raise SkylineError(
            f"the model has no module '{path}' to execute in int8; make the artifact again"
        ) from None
    if not isinstance(current, nn.Linear):
        raise SkylineError(f"module '{path}' is no linear map; make the artifact again")
    replace_module(model, path, kernel)


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put `module` in the place of the one at `path`."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
