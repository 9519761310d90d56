"""The precision in which a runtime executes the linear maps that an artifact leaves in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.codecs import Int8
from harness.models.int8_linear import Int8Linear, replace_linear
from harness.models.model import Model
from harness.records.schema import Precision

CLASSIFIER = "head.classifier"


class BFloat16Linear(nn.Module):
    """A linear map y = x Wᵀ + b: x and y are float32, the product is computed in bfloat16."""

    weight: Tensor  # (out, in)
    bias: Tensor | None  # (out,)

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("weight", linear.weight.detach().to(torch.bfloat16))
        bias = None if linear.bias is None else linear.bias.detach().to(torch.bfloat16)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out)."""
        return F.linear(x.to(torch.bfloat16), self.weight, self.bias).to(torch.float32)


def int8_linear(linear: nn.Linear) -> Int8Linear:
    """Quantize a map to int8, symmetrically, with one scale for each row.

    A weight that was stored in this form keeps its codes.
    """
    weight, parts = Int8("channel").encode(linear.weight.detach())
    return Int8Linear(weight, parts["scale"], None if linear.bias is None else linear.bias.detach())


def in_precision(model: Model, precision: Precision) -> Model:
    """Put the linear maps that the artifact leaves in float32 into `precision`, in place, and return the model.

    Maps that the artifact executes in int8 keep their weights and scales. The classifier stays in float32, as in int8
    artifacts.
    """
    if precision == "float32":
        return model
    make = int8_linear if precision == "int8" else BFloat16Linear
    maps = [(path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    for path, linear in maps:
        if path != CLASSIFIER:
            replace_linear(model, path, make(linear))
    return model
