"""The int8 linear map: it executes on the quantized weights themselves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.common.errors import Code, SkylineError
from harness.common.hardware import multiplies_signed
from harness.models.codecs import INT8_MAX

EXACT_WIDTH = 1024
"""The sum of 1024 products of two int8 numbers is at most 2²⁴, up to which float32 holds every integer exactly."""


class Int8Linear(nn.Module):
    """y = x Wᵀ + b with int8 weights and activations, int32 sums, float32 input and output.

    Activations are quantized dynamically and symmetrically, with one scale per token: a scale per tensor would make a
    row's result depend on padding and on the other rows of its batch. Weights have one scale, or one per row.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        """Take `weight` int8 (out, in), `scale` float32 () or (out), `bias` float32 (out)."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.in_floats = not multiplies_signed()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.to(torch.float32))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out)."""
        tokens = x.reshape(-1, self.in_features)  # (t, in)
        # Clamped after the division: a subnormal scale may be flushed to zero, and 0 / 0 is NaN.
        scale = tokens.abs().amax(dim=1, keepdim=True) / INT8_MAX  # (t, 1)
        scale = scale.clamp_min(torch.finfo(torch.float32).tiny)
        quantized = torch.round(tokens / scale).to(torch.int8)
        sums = self._sums(quantized).to(torch.float32)  # (t, out)
        scales = scale * self.scale  # (t, 1) or (t, out)
        result = sums * scales if self.bias is None else torch.addcmul(self.bias, sums, scales)
        return result.view(*x.shape[:-1], self.out_features)

    def _sums(self, quantized: Tensor) -> Tensor:
        # On CPU, torch 2.13's _int_mm returns wrong sums if there is only one column to sum over.
        if self.in_features == 1:
            return quantized.to(torch.int32) * self.weight.t()
        if quantized.is_cuda:
            return padded_int_mm(quantized, self.weight)
        # A trace must contain one matrix product on any processor: FLOPs are counted from it.
        if self.in_floats and not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return float_int_mm(quantized, self.weight)
        return torch._int_mm(quantized, self.weight.t())


def float_int_mm(x: Tensor, weight: Tensor) -> Tensor:
    """Compute x Wᵀ exactly in int32 (rows, out) by float32 products, for int8 `x` (rows, in) and `weight` (out, in).

    It is for processors without int8 multiplication, where torch's `_int_mm` takes 20 to 30 times as long.
    """
    sums = [
        F.linear(part.float(), columns.float()).to(torch.int32)
        for part, columns in zip(
            torch.split(x, EXACT_WIDTH, 1), torch.split(weight, EXACT_WIDTH, 1), strict=True
        )
    ]
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum(0, dtype=torch.int32)


def padded_int_mm(x: Tensor, weight: Tensor) -> Tensor:
    """Compute x Wᵀ in int32 (rows, out) on CUDA, for int8 `x` (rows, in) and `weight` (out, in).

    cuBLASLt needs more than 16 rows, and widths that are multiples of 8; zeros fill them up. BERT's own sizes only need
    more rows, and only for short inputs.
    """
    rows, width = x.shape
    more_rows, more_width, more_out = max(0, 17 - rows), -width % 8, -weight.shape[0] % 8
    if more_rows or more_width:
        x = F.pad(x, (0, more_width, 0, more_rows))
    if more_width or more_out:
        weight = F.pad(weight, (0, more_width, 0, more_out))
    return torch._int_mm(x, weight.t())[:rows, : weight.shape[0] - more_out]


def require_dense(model: nn.Module) -> None:
    """Raise SkylineError if `model` executes on compressed weights, which a float32 file cannot hold."""
    for path, module in model.named_modules():
        if isinstance(module, Int8Linear):
            raise SkylineError(
                f"module '{path}' executes in int8 and cannot be saved as it is; copy the artifact's folder, or "
                "make the model dense first (harness.models.artifacts.to_dense)",
                Code.WRONG_KIND,
            )


def replace_linear(model: nn.Module, path: str, kernel: nn.Module) -> None:
    """Put `kernel` in the place of the linear module at `path`. Raises SkylineError if there is no linear module."""
    try:
        current = model.get_submodule(path)
    except AttributeError:
        raise SkylineError(
            f"the model has no module '{path}' to execute in int8; make the artifact again", Code.DAMAGED
        ) from None
    if not isinstance(current, nn.Linear):
        raise SkylineError(
            f"module '{path}' is not a linear map, so it cannot execute in int8; make the artifact again",
            Code.DAMAGED,
        )
    replace_module(model, path, kernel)


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Put `module` in the place of the module at `path`."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
